"""Pictures that are damaged where it hurts: chunks moved, sizes that lie, checksums that are right nevertheless."""

import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image

from support.fuzz.damage import damage

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIDES = (
    0,
    1,
    2,
    7,
    63,
    64,
    65,
    255,
    256,
    4096,
    16_383,
    16_384,
    16_385,
    65_535,
    65_536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_MOST_REAL_PIXELS = 32_000_000
"""The server's limit; pictures of zeros up to this size are decoded for real."""


class Chunk(NamedTuple):
    """A chunk of a PNG or WebP: its type and what is in it."""

    kind: bytes
    body: bytes


@cache
def samples() -> dict[str, list[bytes]]:
    """Good pictures of every kind that decoders distinguish, by format."""
    noise = np.random.default_rng(5).integers(0, 256, (24, 20, 4), np.uint8)
    made = {mode: Image.fromarray(noise, "RGBA").convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")}
    deep = Image.fromarray(np.arange(480, dtype=np.uint16).reshape(24, 20))

    def saved(image: Image.Image, name: str, **options: object) -> bytes:
        file = BytesIO()
        image.save(file, name, **options)
        return file.getvalue()

    frames = {"save_all": True, "append_images": [made["RGB"]]}
    return {
        "png": [
            *(saved(made[mode], "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
            saved(deep, "PNG"),
            saved(made["P"], "PNG", transparency=3, bits=4),
            saved(made["RGB"], "PNG", **frames),
        ],
        "jpeg": [
            *(saved(made[mode], "JPEG") for mode in ("L", "RGB", "CMYK")),
            saved(made["RGB"], "JPEG", progressive=True, subsampling=2),
            saved(made["RGB"], "JPEG", quality=5, exif=b"Exif\0\0II*\0", restart_marker_blocks=1),
        ],
        "webp": [
            saved(made["RGB"], "WEBP"),
            saved(made["RGBA"], "WEBP", quality=30),
            saved(made["RGBA"], "WEBP", lossless=True, exif=b"Exif\0\0x"),
            saved(made["RGB"], "WEBP", lossless=True),
            saved(made["RGB"], "WEBP", **frames),
        ],
    }


def picture(image_format: str, random: Random) -> bytes:
    """Make a damaged picture of a format."""
    content = random.choice(samples()[image_format])
    if random.random() < 0.3:
        return damage(content, random, random.choice(samples()[image_format]))
    mutate: dict[str, Callable[[bytes, Random], bytes]] = {"png": _png, "jpeg": _jpeg, "webp": _webp}
    return mutate[image_format](content, random)


def bomb(random: Random) -> bytes:
    """Make a small PNG of many pixels; most say more than they hold, some hold what they say."""
    depth, color, channels = random.choice([(1, 0, 1), (8, 0, 1), (8, 2, 3), (8, 6, 4), (2, 3, 1), (16, 2, 3)])
    width, height = (min(2**31 - 1, int(2 ** random.uniform(0, 18))) for _ in range(2))
    most = _MOST_REAL_PIXELS if random.random() < 0.02 else 2_000_000
    row_bytes = 1 + (width * depth * channels + 7) // 8
    rows = height if width * height <= most else random.randint(0, 3)
    data = zlib.compress(bytes(row_bytes * rows), 1)
    if random.random() < 0.2:  # more than the header says
        data = zlib.compress(bytes(random.choice([10**6, 3 * 10**7])), 1)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, random.choice([0, 0, 1]))
    palette = [Chunk(b"PLTE", bytes(12))] if color == 3 else []
    return _png_of([Chunk(b"IHDR", header), *palette, Chunk(b"IDAT", data), Chunk(b"IEND", b"")])


def _shuffle(chunks: list[Chunk], random: Random, strange: Sequence[Chunk]) -> list[Chunk]:
    """Drop, repeat, move or add chunks."""
    position = random.randrange(len(chunks))
    match random.randrange(5):
        case 0:
            del chunks[position]
        case 1:
            chunks.insert(position, random.choice(chunks))
        case 2:
            chunks.insert(random.randrange(len(chunks)), chunks.pop(position))
        case 3:
            chunks.insert(position, random.choice(strange))
        case _:
            kind, body = chunks[position]
            chunks[position] = Chunk(kind, damage(body, random))
    return chunks


# --- PNG -------------------------------------------------------------------------------------------------------------

_STRANGE_PNG = (
    Chunk(b"acTL", struct.pack(">II", 2**31, 0)),
    Chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**6))),
    Chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(10**6))),
    Chunk(b"iTXt", b"x" * 100),
    Chunk(b"tRNS", bytes(300)),
    Chunk(b"PLTE", bytes(7)),
    Chunk(b"PLTE", bytes(3 * 257)),
    Chunk(b"gAMA", bytes(4)),
    Chunk(b"IDAT", b""),
    Chunk(b"IHDR", struct.pack(">IIBBBBB", 9999, 9999, 8, 6, 0, 0, 0)),
    Chunk(b"\xff\0aB", b"?"),
)


def _png(content: bytes, random: Random) -> bytes:
    chunks = list(_png_chunks(content))
    match random.randrange(4):
        case 0:
            chunks[0] = Chunk(b"IHDR", _png_header(chunks[0].body, random))
        case 1:  # the pixels themselves: filters that there are not, too many or too few
            chunks = [Chunk(k, _png_data(b, random) if k == b"IDAT" else b) for k, b in chunks]
        case _:
            chunks = _shuffle(chunks, random, _STRANGE_PNG)
    return _png_of(chunks)


def _png_chunks(content: bytes) -> list[Chunk]:
    position, found = len(_PNG_SIGNATURE), []
    while position < len(content):
        length = int.from_bytes(content[position : position + 4])
        found.append(Chunk(content[position + 4 : position + 8], content[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def _png_of(chunks: Sequence[Chunk]) -> bytes:
    parts = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return _PNG_SIGNATURE + b"".join(parts)


def _png_header(body: bytes, random: Random) -> bytes:
    fields = list(struct.unpack(">IIBBBBB", body))
    for _ in range(random.randint(1, 2)):
        index = random.randrange(7)
        fields[index] = random.choice(_SIDES) if index < 2 else random.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 255])
    return struct.pack(">IIBBBBB", *fields)


def _png_data(body: bytes, random: Random) -> bytes:
    pixels = bytearray(zlib.decompress(body))
    for _ in range(random.randint(0, 5)):
        pixels[random.randrange(len(pixels))] = random.randrange(256)
    size = random.choice([len(pixels), random.randrange(len(pixels)), len(pixels) * 3])
    packed = zlib.compress((pixels * 3)[:size])
    return damage(packed, random) if random.random() < 0.3 else packed


# --- JPEG ------------------------------------------------------------------------------------------------------------


def _jpeg(content: bytes, random: Random) -> bytes:
    scan = content.index(b"\xff\xda")
    segments, tail = _jpeg_segments(content[2:scan]), content[scan:]
    match random.randrange(4):
        case 0:
            segments = [_jpeg_frame(s, random) if 0xC0 <= s[1] <= 0xC2 else s for s in segments]
        case 1:
            tail = damage(tail, random, content)
        case 2:
            first = tail[: tail.find(b"\xff\xd9")]
            tail = first + random.choice([first, first[:9], b"\xff\xd0"]) * random.choice([1, 9, 60]) + b"\xff\xd9"
        case _:
            chunks = _shuffle([Chunk(s[:2], s[4:]) for s in segments], random, _STRANGE_JPEG)
            segments = [c.kind + struct.pack(">H", (len(c.body) + 2) & 0xFFFF) + c.body for c in chunks]
    return b"\xff\xd8" + b"".join(segments) + tail


_STRANGE_JPEG = (
    Chunk(b"\xff\xdd", b"\0\1"),
    Chunk(b"\xff\xdb", bytes(65)),
    Chunk(b"\xff\xc4", b"\0" + b"\xff" * 16),
    Chunk(b"\xff\xee", b"Adobe\0\x64\0\0\0\0\2"),
    Chunk(b"\xff\xe0", b"JFIF\0\1\1\0\0\1\0\1\xff\xff"),
    Chunk(b"\xff\xcc", bytes(9)),
    Chunk(b"\xff\xfe", bytes(65_000)),
    Chunk(b"\xff\xc3", b"\x08\0\x10\0\x10\1\1\x11\0"),
)


def _jpeg_segments(content: bytes) -> list[bytes]:
    position, found = 0, []
    while position < len(content):
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4])
        found.append(content[position:end])
        position = end
    return found


def _jpeg_frame(segment: bytes, random: Random) -> bytes:
    """Change sizes, precision, the number of components or how they are sampled."""
    changed = bytearray(segment)
    if random.random() < 0.5:
        struct.pack_into(">HH", changed, 5, *(random.choice(_SIDES) & 0xFFFF for _ in range(2)))
    else:
        changed[random.randrange(4, len(changed))] = random.choice([0, 1, 2, 3, 4, 8, 12, 0x11, 0x44, 0xF1, 0xFF])
    changed[1] = random.choice([changed[1]] * 4 + [0xC0, 0xC2, 0xC3, 0xC9])
    return bytes(changed)


# --- WebP ------------------------------------------------------------------------------------------------------------

_STRANGE_WEBP = (
    Chunk(b"VP8X", b"\x10\0\0\0" + b"\xff" * 6),
    Chunk(b"VP8X", b"\x12\0\0\0\x13\0\0\x17\0\0"),
    Chunk(b"ALPH", bytes(9)),
    Chunk(b"ANIM", bytes(6)),
    Chunk(b"ANMF", bytes(24)),
    Chunk(b"ICCP", bytes(99)),
    Chunk(b"VP8L", b"\x2f" + b"\xff" * 4),
    Chunk(b"VP8 ", b"\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f"),
)


def _webp(content: bytes, random: Random) -> bytes:
    chunks, position = [], 12
    while position + 8 <= len(content):
        length = int.from_bytes(content[position + 4 : position + 8], "little")
        chunks.append(Chunk(content[position : position + 4], content[position + 8 : position + 8 + length]))
        position += 8 + length + length % 2
    for _ in range(random.randint(1, 2)):
        if chunks:
            chunks = _shuffle(chunks, random, _STRANGE_WEBP)
    body = b"WEBP" + b"".join(_webp_chunk(chunk, random) for chunk in chunks)
    length = len(body) if random.random() < 0.9 else random.choice(_SIDES)
    return b"RIFF" + struct.pack("<I", length) + body


def _webp_chunk(chunk: Chunk, random: Random) -> bytes:
    length = len(chunk.body) if random.random() < 0.95 else random.choice(_SIDES)
    return chunk.kind + struct.pack("<I", length) + chunk.body + bytes(len(chunk.body) % 2)
