"""Parts of requests that are wrong, each with the paths that the server must name."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stylewire import pb
from stylewire.tensors import to_tensor
from support.pictures import avatar, five_points, saved

NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Wrong:
    """A wrong message.

    Attributes:
        name: what is wrong, in words.
        message: the wrong message or value; None where a table of whole requests has it beside this.
        fields: paths in the message that the server must name; none where the error is of another kind.
        tried: paths of the fields that are wrong, where the server names what holds them; ``fields`` by default.
        reason: of the error.
        model: the request's model; empty for the default of the demo server, else one of the small models.
    """

    name: str
    message: Any
    fields: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    reason: str = "INVALID_FIELD"
    model: str = ""


def tensor(array=None, /, **fields) -> pb.Tensor:
    """A good tensor of the demo's w_dim, or of an array, with some fields replaced."""
    message = to_tensor(np.zeros(128, np.float32) if array is None else array)
    for name, value in fields.items():
        message.ClearField(name)
        message.MergeFrom(pb.Tensor(**{name: value}))
    return message


def _nested(path: str, parts: list[Wrong], wrap: Callable[[Any], Any]) -> list[Wrong]:
    """Put wrong parts into a larger message, at a path."""

    def under(names):
        return tuple(f"{path}.{name}" if name else path for name in names)

    return [
        Wrong(f"{path}: {p.name}", wrap(p.message), under(p.fields), under(p.tried or p.fields), p.reason, p.model)
        for p in parts
    ]


FLOATS = np.ones(128, np.float32)
TENSORS = [
    Wrong("empty", pb.Tensor(), ("",), ("data_type", "shape", "data")),
    Wrong("of bytes", tensor(np.zeros(128, np.uint8)), ("",), ("data_type",)),
    Wrong("unknown type", tensor(data_type=77), ("",), ("data_type",)),
    Wrong("negative type", tensor(data_type=-1), ("",), ("data_type",)),
    Wrong("without type", tensor(data_type=0), ("",), ("data_type",)),
    Wrong("too short", tensor(FLOATS[:127]), ("",), ("shape",)),
    Wrong("a matrix", tensor(shape=[1, 128]), ("",), ("shape",)),
    Wrong("a scalar", tensor(shape=[]), ("",), ("shape",)),
    Wrong("a negative axis", tensor(shape=[-128]), ("",), ("shape",)),
    Wrong("axes that overflow", tensor(shape=[2**62, 4]), ("",), ("shape",)),
    Wrong("axes whose product is right modulo 2^64", tensor(shape=[2**62 + 32, 4]), ("",), ("shape",)),
    Wrong("ten thousand axes", tensor(shape=[1] * 9_999 + [128]), ("",), ("shape",)),
    Wrong("one byte short", tensor(data=bytes(511)), ("",), ("data",)),
    Wrong("one byte over", tensor(data=bytes(513)), ("",), ("data",)),
    Wrong("no bytes", tensor(data=b""), ("",), ("data",)),
    Wrong("NaN", tensor(FLOATS * np.float32(NAN)), ("",), ("data",)),
    Wrong("one infinity", tensor(np.where(np.arange(128) == 9, INF, FLOATS).astype(np.float32)), ("",), ("data",)),
]

RANGES = [
    Wrong("negative start", pb.LayerRange(start_layer=-1), ("start_layer",)),
    Wrong("least start", pb.LayerRange(start_layer=-(2**31)), ("start_layer",)),
    Wrong("start past the end", pb.LayerRange(start_layer=10), ("start_layer",)),
    Wrong("end over the layers", pb.LayerRange(end_layer=11), ("end_layer",)),
    Wrong("reversed", pb.LayerRange(start_layer=5, end_layer=3), ("end_layer",)),
    Wrong("empty range", pb.LayerRange(start_layer=5, end_layer=5), ("end_layer",)),
    Wrong("end at 0", pb.LayerRange(end_layer=0), ("end_layer",)),
    Wrong("negative end", pb.LayerRange(end_layer=-1), ("end_layer",)),
]

TRUNCATIONS = [
    *(Wrong(f"psi {psi}", pb.Truncation(psi=psi), ("psi",)) for psi in (NAN, INF, -INF, 2.001, -3)),
    *_nested("layer_range", RANGES, lambda part: pb.Truncation(layer_range=part)),
]


def _bomb_of_bits() -> bytes:
    """16 000 x 16 000 pixels of one bit: 31 KB that want 256 MB."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 16_000, 16_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(16_000 * 2_001), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


FRAMES = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
CONTENTS = {
    "empty": b"",
    "text": b"hello",
    "a GIF": saved(FRAMES[0], "GIF"),
    "cut in half": avatar()[: len(avatar()) // 2],
    "a damaged header": avatar()[:20] + b"\xff" * 9 + avatar()[29:],
    "a JPEG cut short": saved(FRAMES[0], "JPEG")[:-30],
    "a WebP cut short": saved(FRAMES[0], "WEBP")[:-4],
    "an animation": saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
    "over 16 MiB": avatar() + bytes(16 << 20),
    "a bomb of bits": _bomb_of_bits(),
    "over the pixels": saved(Image.new("1", (8_000, 4_001))),
}


def _photo(**fields) -> pb.ImageSource:
    return pb.ImageSource(**{"content": avatar(), **fields})


def _face(*points) -> pb.ImageSource:
    landmarks = pb.Landmarks(points=[pb.Point(x_px=x, y_px=y) for x, y in points])
    return _photo(alignment=pb.ALIGNMENT_FACE, landmarks=landmarks)


_GOOD_FACE = [(point.x_px, point.y_px) for point in five_points(64).points]
_COORDINATES = ("landmarks.points.x_px", "landmarks.points.y_px")
PHOTOS = [
    *(Wrong(name, pb.ImageSource(content=content), ("content",)) for name, content in CONTENTS.items()),
    Wrong("no picture", pb.ImageSource(), ("content",)),
    Wrong("unknown encoder", _photo(encoder="nobody"), (), ("encoder",), "MODEL_NOT_FOUND"),
    Wrong("unknown alignment", _photo(alignment=9), ("alignment",)),
    Wrong("landmarks without alignment", _photo(landmarks=five_points(64)), ("landmarks",)),
    Wrong("landmarks of a drawing", _photo(alignment=pb.ALIGNMENT_ANIME, landmarks=five_points(64)), ("landmarks",)),
    Wrong("no points", _face(), ("landmarks",), ("landmarks.points",)),
    Wrong("six points", _face(*_GOOD_FACE, (1, 1)), ("landmarks",), ("landmarks.points",)),
    Wrong("a hundred thousand points", _face(*[(1, 1)] * 100_000), ("landmarks.points",)),
    Wrong("NaN", _face(*_GOOD_FACE[:4], (NAN, 3)), ("landmarks",), _COORDINATES),
    Wrong("infinite points", _face(*_GOOD_FACE[:4], (3, -INF)), ("landmarks",), _COORDINATES),
    Wrong("points far away", _face(*_GOOD_FACE[:4], (1e300, 3)), ("landmarks",), _COORDINATES),
    Wrong("points at one place", _face(*[(30, 30)] * 5), ("landmarks",), _COORDINATES),
]

LATENTS = [
    Wrong("empty", pb.Latent(), ("source",)),
    Wrong("negative seed", pb.Latent(seed=-1), ("seed",)),
    Wrong("seed of 33 bits", pb.Latent(seed=2**32), ("seed",)),
    *_nested("z", TENSORS, lambda part: pb.Latent(z=part)),
    *_nested("w", TENSORS, lambda part: pb.Latent(w=part)),
    Wrong("w_plus: a w", pb.Latent(w_plus=tensor()), ("w_plus",), ("w_plus.shape",)),
    Wrong("w_plus: turned", pb.Latent(w_plus=tensor(np.zeros((128, 10), np.float32))), ("w_plus",)),
    Wrong("w_plus: bytes", pb.Latent(w_plus=tensor(np.zeros((10, 128), np.uint8))), ("w_plus",), ("w_plus.data_type",)),
    Wrong("w_plus: NaN", pb.Latent(w_plus=tensor(np.full((10, 128), NAN, np.float32))), ("w_plus",), ("w_plus.data",)),
    *_nested("image", PHOTOS, lambda part: pb.Latent(image=part)),
    *_nested("truncation", TRUNCATIONS, lambda part: pb.Latent(seed=1, truncation=part)),
    Wrong("unknown model", pb.Latent(seed=1, model="nobody"), (), ("model",), "MODEL_NOT_FOUND"),
    Wrong("class of a model without", pb.Latent(seed=1, class_index=0), ("class_index",)),
    Wrong("label of a model without", pb.Latent(seed=1, label=tensor()), ("label",)),
    Wrong("no class", pb.Latent(seed=1), ("class_index",), model="classes"),
    Wrong("negative class", pb.Latent(seed=1, class_index=-1), ("class_index",), model="classes"),
    Wrong("class over the last", pb.Latent(seed=1, class_index=5), ("class_index",), model="classes"),
    Wrong(
        "label beside a w",
        pb.Latent(w=tensor(np.zeros(16, np.float32)), class_index=1),
        ("class_index",),
        model="classes",
    ),
    Wrong("short label", pb.Latent(seed=1, label=tensor(FLOATS[:4])), ("label",), ("label.shape",), model="classes"),
    Wrong(
        "label of bytes",
        pb.Latent(seed=1, label=tensor(np.ones(5, np.uint8))),
        ("label",),
        ("label.data_type",),
        model="classes",
    ),
    Wrong(
        "label of NaN",
        pb.Latent(seed=1, label=tensor(FLOATS[:5] * np.float32(NAN))),
        ("label",),
        ("label.data",),
        model="classes",
    ),
    Wrong("another latent space", pb.Latent(seed=1, model="rgba"), (), ("model",), "UNSUPPORTED", model="plain"),
]

_STRENGTHS = (NAN, INF, -0.001, 10.01)
_VALUES = ("values.data_type", "values.shape", "values.data")
NOISES = [
    Wrong("unknown mode", pb.Noise(mode=5), ("mode",)),
    Wrong("negative mode", pb.Noise(mode=-1), ("mode",)),
    Wrong("negative seed", pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=-1), ("seed",)),
    Wrong("seed of CONST", pb.Noise(seed=1), ("seed",)),
    Wrong("seed of NONE", pb.Noise(mode=pb.Noise.MODE_NONE, seed=0), ("seed",)),
    *(Wrong(f"strength {s}", pb.Noise(strength=s), ("strength",)) for s in _STRENGTHS),
    Wrong("strength of NONE", pb.Noise(mode=pb.Noise.MODE_NONE, strength=1), ("strength",)),
    Wrong("values of CONST", pb.Noise(values=tensor()), ("values",), _VALUES),
    Wrong("VALUES without values", pb.Noise(mode=pb.Noise.MODE_VALUES), ("values",), _VALUES),
]

OUTPUTS = [
    Wrong("unknown format", pb.OutputConfig(format=6), ("format",)),
    Wrong("quality of PNG", pb.OutputConfig(quality=90), ("quality",)),
    Wrong("quality 0", pb.OutputConfig(format=pb.IMAGE_FORMAT_JPEG, quality=0), ("quality",)),
    Wrong("quality 101", pb.OutputConfig(format=pb.IMAGE_FORMAT_WEBP, quality=101), ("quality",)),
    Wrong("no pixels", pb.OutputConfig(resolution_px=0), ("resolution_px",)),
    Wrong("negative pixels", pb.OutputConfig(resolution_px=-(2**31)), ("resolution_px",)),
    Wrong("larger than the model", pb.OutputConfig(resolution_px=65), ("resolution_px",)),
    Wrong("a small tensor", pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR, resolution_px=32), ("resolution_px",)),
]
JPEG_OF_ALPHA = Wrong("JPEG of alpha", pb.OutputConfig(format=pb.IMAGE_FORMAT_JPEG), ("format",), model="rgba")

WEIGHTS = [Wrong(f"weight {weight}", weight, ("weight",)) for weight in (NAN, INF, -0.1, 1.1)]
VIDEOS = [
    Wrong("unknown container", pb.VideoConfig(container=3), ("container",)),
    *(
        Wrong(f"{rate} frames a second", pb.VideoConfig(frame_rate=rate), ("frame_rate",))
        for rate in (0, 0.5, 120.5, -30, NAN, INF, -INF, 1e308, 5e-324)
    ),
    *(Wrong(f"quality {quality}", pb.VideoConfig(quality=quality), ("quality",)) for quality in (0, 101, -(2**31))),
    *(
        Wrong(f"{bits} bits a second", pb.VideoConfig(bits_per_second=bits), ("bits_per_second",))
        for bits in (0, 9_999, 100_000_001, -1)
    ),
    Wrong("quality and bits", pb.VideoConfig(quality=50, bits_per_second=10_000), ("quality",)),
    Wrong("of a model with alpha", pb.VideoConfig(), ("container",), model="rgba"),
]
