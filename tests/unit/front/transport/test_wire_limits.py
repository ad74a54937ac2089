"""What is refused on the bytes of a message, before protobuf makes objects of it."""

import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from stylewire import oip_pb, pb
from stylewire.errors import InvalidFieldError
from stylewire.server.front.transport.wire_limits import WireLimit, max_fields
from stylewire.tensors import to_tensor

MANY = 4_000_000


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def block(number, content):
    """A field of bytes or of a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


NAME = block(1, b"avatars")
SEED = block(1, b"seed") + block(2, b"INT64")
ATTACKS = {
    "empty latents": (pb.GenerateRequest, b"\x12\x00" * MANY),
    "seeds": (pb.GenerateRequest, block(2, b"\x08\x01") * (MANY // 2)),
    "empty styles": (pb.MixStylesRequest, b"\x1a\x00" * MANY),
    "empty keyframes": (pb.InterpolateRequest, b"\x12\x00" * MANY),
    "axes of a shape": (pb.GenerateRequest, block(2, block(2, b"\x08\x01" + block(2, b"\x01" * MANY)))),
    "axes one by one": (pb.GenerateRequest, block(2, block(2, b"\x10\x01" * MANY))),
    "landmarks": (pb.InvertRequest, block(2, block(1, b"x") + block(4, b"\x0a\x00" * MANY))),
    "landmarks of a projection": (pb.ProjectRequest, block(2, block(4, b"\x0a\x00" * MANY))),
    "unknown numbers": (pb.GenerateRequest, b"\xf8\x07\x01" * MANY),
    "unknown blocks": (pb.GetModelRequest, b"\xfa\x07\x00" * MANY),
    "inputs": (oip_pb.ModelInferRequest, NAME + b"\x2a\x00" * MANY),
    "outputs": (oip_pb.ModelInferRequest, NAME + b"\x32\x00" * MANY),
    "raw inputs": (oip_pb.ModelInferRequest, NAME + b"\x3a\x00" * MANY),
    "seeds of an input": (oip_pb.ModelInferRequest, NAME + block(5, SEED + block(5, block(3, b"\x01" * MANY)))),
    "parameters": (oip_pb.ModelInferRequest, b"".join(block(4, block(1, b"%d" % n)) for n in range(20_000))),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_many_elements_are_refused_before_they_are_made(name):
    """Millions of small elements are refused, whatever field they are in, and nothing is made of them."""
    kind, content = ATTACKS[name]
    limit = WireLimit(kind.DESCRIPTOR, max_fields())
    tracemalloc.start()
    try:
        with pytest.raises(InvalidFieldError):
            limit.check(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("kind", "content", "name"),
    [
        (pb.GenerateRequest, b"\x12\x00" * MANY, "latents"),
        (pb.MixStylesRequest, block(2, b"\x08\x01") + b"\x1a\x00" * MANY, "styles"),
        (
            pb.GenerateRequest,
            block(2, b"") + block(2, block(5, block(4, b"\x0a\x00" * MANY))),
            "latents[1].image.landmarks.points",
        ),
        (pb.GenerateRequest, block(2, block(2, block(2, b"\x01" * MANY))), "latents[0].z.shape"),
    ],
)
def test_longest_list_is_named(kind, content, name):
    """The error names the list that is too long, as the checks of its values would."""
    with pytest.raises(InvalidFieldError) as caught:
        WireLimit(kind.DESCRIPTOR, max_fields()).check(content)

    assert [name] == [violation.field for violation in caught.value.violations]


def test_largest_requests_pass():
    """64 codes, 68 landmarks beside a photo, and large tensors are what requests may have."""
    code = to_tensor(np.zeros((18, 512), np.float32))
    generate = pb.GenerateRequest(
        latents=[
            pb.Latent(w_plus=code, truncation=pb.Truncation(psi=0.7, layer_range=pb.LayerRange(start_layer=1)))
            for _ in range(64)
        ],
        noise=pb.Noise(mode=pb.Noise.MODE_VALUES, values=to_tensor(np.zeros(2_000_000, np.float32))),
    )
    points = [pb.Point(x_px=n, y_px=n) for n in range(68)]
    invert = pb.InvertRequest(image=pb.ImageSource(content=b"x" * 3_000_000, landmarks=pb.Landmarks(points=points)))
    infer = oip_pb.ModelInferRequest(model_name="avatars")
    infer.inputs.add(name="z", datatype="FP32", shape=[64, 512]).contents.fp32_contents.extend([0.5] * 64 * 512)

    for message in (generate, invert, infer):
        WireLimit(message.DESCRIPTOR, max_fields()).check(message.SerializeToString())


@given(st.binary(max_size=200), st.integers(0, 4))
def test_any_bytes_are_refused_or_pass(content, depth):
    """Bytes that are no message end with the error of a wrong field, never with another one."""
    for _ in range(depth):
        content = block(2, content)
    with suppress(InvalidFieldError):
        WireLimit(pb.GenerateRequest.DESCRIPTOR, max_fields()).check(block(1, b"m" * 5000) + content)


@pytest.mark.parametrize(
    "content",
    [b"\x12", b"\x12\xff", b"\x12\x05ab", b"\xff" * 11, b"\x13\x14", b"\x09abc", b"\x12\x02\x12\x05"],
    ids=["tag", "length", "block", "varint", "group", "fixed", "inner"],
)
def test_bytes_that_end_early_are_refused(content):
    """A message whose bytes end within a field is refused here too: nothing is read past its end."""
    limit = WireLimit(pb.MixStylesRequest.DESCRIPTOR, max_fields())

    with pytest.raises(InvalidFieldError):
        limit.check(block(1, b"m" * 5000) + content)


def test_depth_is_bounded():
    """A message that holds itself cannot make the walk go on for ever."""
    content = b""
    for _ in range(40):
        content = block(1, block(6, content))
    with pytest.raises(InvalidFieldError, match="within each other"):
        WireLimit(struct_pb2.ListValue.DESCRIPTOR, max_fields()).check(block(1, block(3, b"k" * 5000)) + content)
