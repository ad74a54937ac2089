"""Small messages with a large effect, sent to a real server: refused, and no memory is taken for them."""

import zlib

import grpc
import pytest

from stylewire import oip_pb, pb
from support.refusals import failure
from support.servers import LARGE, ServerProcess

MANY_BYTES = 8 << 20
GROWTH_BYTES = 200e6
STYLEGAN, OIP = f"/{pb.STYLEGAN_SERVICE}", f"/{oip_pb.SERVICE}"
MESSAGES = {
    "Generate": (f"{STYLEGAN}/Generate", b"\x12\x00"),
    "MixStyles": (f"{STYLEGAN}/MixStyles", b"\x1a\x00"),
    "Interpolate": (f"{STYLEGAN}/Interpolate", b"\x12\x00"),
    "Invert": (f"{STYLEGAN}/Invert", b"\x12\x00"),
    "Project": (f"{STYLEGAN}/Project", b"\x12\x00"),
    "GetModel": (f"/{pb.MODEL_SERVICE}/GetModel", b"\x12\x00"),
    "ModelInfer inputs": (f"{OIP}/ModelInfer", b"\x2a\x00"),
    "ModelInfer outputs": (f"{OIP}/ModelInfer", b"\x32\x00"),
    "ModelInfer raw": (f"{OIP}/ModelInfer", b"\x3a\x00"),
    "Check": ("/grpc.health.v1.Health/Check", b"\x12\x00"),
}


@pytest.fixture(scope="module")
def server():
    server = ServerProcess()
    yield server
    server.kill()


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.address, LARGE) as channel:
        yield channel


@pytest.mark.parametrize("name", MESSAGES)
def test_many_empty_elements_are_refused(server, channel, name):
    """Four million empty elements in 8 MB are INVALID_ARGUMENT, and make no objects."""
    method, element = MESSAGES[name]
    content, before = element * (MANY_BYTES // len(element)), server.resident_bytes()
    if name in ("Interpolate", "Project"):
        code = failure(lambda _: list(channel.unary_stream(method)(content)), None).code()
    else:
        code = failure(channel.unary_unary(method), content).code()

    assert grpc.StatusCode.INVALID_ARGUMENT is code
    assert server.resident_bytes() - before < GROWTH_BYTES


def test_compressed_requests_are_refused(server, channel):
    """300 MB of zeros in 300 kB are not inflated: a request that says it is compressed is UNIMPLEMENTED."""
    before = server.resident_bytes()
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        caught = failure(
            lambda content, each=compression, call=call: call(content, compression=each), b"\x00" * 60_000_000
        )

        assert grpc.StatusCode.UNIMPLEMENTED is caught.code()
    assert server.resident_bytes() - before < GROWTH_BYTES
    assert len(zlib.compress(b"\x00" * 60_000_000)) < 100_000
