"""Pictures made to hurt: bombs, lies, damage. Each is refused with a reason, before memory or time is spent."""

import struct
import time
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stylewire.media.codecs import ImageError, ImageFormat, decode, encode

LIMITS = {"max_bytes": 10**6, "max_pixels": 10**6}
NOISE = np.random.default_rng(5).integers(0, 256, (24, 20, 3), np.uint8)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _saved(image, image_format, **options):
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width_px, height_px, *between, data=b"", depth=8, color=2):
    """A PNG that says it has this size, with chunks between the header and the pixels."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, depth, color, 0, 0, 0))
    return SIGNATURE + header + b"".join(between) + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")


def _jpeg_of_size(width_px, height_px):
    """A JPEG whose header lies about its size."""
    content = bytearray(_saved(Image.fromarray(NOISE), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height_px, width_px)
    return bytes(content)


def _webp_of_size(width_px, height_px, kind):
    """A WebP whose header lies about its size."""
    options = {"VP8 ": {}, "VP8L": {"lossless": True}, "VP8X": {"exif": b"Exif\0\0x"}}[kind]
    content = bytearray(_saved(Image.fromarray(NOISE), "WEBP", **options))
    assert kind.encode() == content[12:16]
    if kind == "VP8 ":
        content[26:30] = struct.pack("<HH", width_px, height_px)
    elif kind == "VP8L":
        content[21:25] = struct.pack("<I", (width_px - 1) | (height_px - 1) << 14)
    else:
        content[24:30] = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    return bytes(content)


ANIMATION = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
SAMPLES = {
    "png": encode(NOISE, ImageFormat.PNG),
    "palette": _saved(Image.fromarray(NOISE).convert("P"), "PNG"),
    "jpeg": encode(NOISE, ImageFormat.JPEG),
    "progressive": _saved(Image.fromarray(NOISE), "JPEG", progressive=True, exif=b"Exif\0\0II*\0"),
    "webp": encode(NOISE, ImageFormat.WEBP),
    "webp with alpha": _saved(Image.fromarray(NOISE).convert("RGBA"), "WEBP", lossless=True, exif=b"Exif\0\0x"),
}
HOSTILE = {
    "empty": (b"", "empty"),
    "text": (b"hello, world", "not a picture of a known format"),
    "gif": (_saved(ANIMATION[0], "GIF"), "a GIF file; send PNG, JPEG or WebP"),
    "bmp": (_saved(ANIMATION[0], "BMP"), "a BMP file"),
    "tiff": (_saved(ANIMATION[0], "TIFF"), "a TIFF file"),
    "avif": (b"\0\0\0\x1cftypavif" + bytes(40), "HEIC, AVIF"),
    "png bomb": (_png(50_000, 50_000), "limit of a side is 16384 px"),
    "png over the pixels": (_png(1001, 1000), "limit is 1000000 pixels"),
    "png of one row": (_png(900_000, 1), "limit of a side"),
    "png of no pixels": (_png(0, 5), "at least 1 x 1"),
    "png without pixels": (_png(40, 40), "damaged or truncated"),
    "png with 16-bit gray": (_png(4, 4, depth=16, color=0), "16 bits"),
    "png with two headers": (_png(4, 4, _png(9999, 9999)[8:33]), "header must come first and once"),
    "png without header": (SIGNATURE + _chunk(b"IDAT", b""), "header must come first"),
    "png with a bad checksum": (SAMPLES["png"][:40] + b"\1" + SAMPLES["png"][41:], "damaged"),
    "png of empty chunks": (_png(4, 4, _chunk(b"tEXt", b"") * 17_000), "more than 16384 chunks"),
    "apng": (_saved(ANIMATION[0], "PNG", save_all=True, append_images=ANIMATION[1:]), "animated"),
    "jpeg bomb": (_jpeg_of_size(65_000, 65_000), "limit of a side"),
    "jpeg over the pixels": (_jpeg_of_size(10_000, 10_000), "limit is 1000000 pixels"),
    "jpeg of no rows": (_jpeg_of_size(10, 0), "at least 1 x 1"),
    "jpeg with cmyk": (_saved(ANIMATION[0].convert("CMYK"), "JPEG"), "CMYK"),
    "jpeg of markers": (b"\xff\xd8" + b"\xff" * 900_000, "ends too early"),
    "jpeg of empty segments": (b"\xff\xd8" + b"\xff\xe1\0\2" * 17_000, "more than 16384 segments"),
    "webp bomb": (_webp_of_size(16_383, 16_383, "VP8 "), "limit is 1000000 pixels"),
    "lossless webp bomb": (_webp_of_size(16_384, 16_384, "VP8L"), "limit is 1000000 pixels"),
    "extended webp bomb": (_webp_of_size(2**24, 2**24, "VP8X"), "limit of a side"),
    "animated webp": (_saved(ANIMATION[0], "WEBP", save_all=True, append_images=ANIMATION[1:]), "animated"),
    "webp of nothing": (b"RIFF\x20\0\0\0WEBPJUNK" + bytes(30), "first chunk is b'JUNK'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_picture_is_refused_with_its_reason(name):
    """Each hostile picture gets an ImageError that says what is wrong, and costs next to nothing."""
    content, reason = HOSTILE[name]
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(ImageError, match=reason):
            decode(content, **LIMITS)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 30 * 10**6
    assert time.process_time() - start < 2


def test_jpeg_of_many_scans_is_refused():
    """Thousands of tiny scans, each a pass over all pixels, are refused by their number."""
    content = SAMPLES["progressive"]
    scan = content[content.rindex(b"\xff\xda") : -2]

    with pytest.raises(ImageError, match="scans, the limit is 50"):
        decode(content[:-2] + scan * 1000 + content[-2:], **LIMITS)


def test_file_over_the_bytes_is_refused_unread():
    """The size of the file is the first limit."""
    with pytest.raises(ImageError, match="has 1000001 bytes, the limit is 1000000"):
        decode(bytes(1_000_001), **LIMITS)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_is_refused(name):
    """A picture cut anywhere before its last bytes is refused, never half decoded."""
    content = SAMPLES[name]
    for length in range(len(content) - 12):
        with pytest.raises(ImageError):
            decode(content[:length], **LIMITS)


@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.data())
def test_damage_raises_nothing_but_image_errors(name, data):
    """Bytes changed, inserted or removed anywhere give a picture or an ImageError: no other error, no warning."""
    content = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        image = decode(bytes(content), **LIMITS)
    except ImageError:
        return

    assert image.width * image.height <= LIMITS["max_pixels"]


@given(st.sampled_from([SIGNATURE, b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBPVP8X", b""]), st.binary(max_size=200))
def test_noise_behind_a_signature_raises_nothing_but_image_errors(signature, noise):
    """Arbitrary bytes behind the signature of a format are refused."""
    with pytest.raises(ImageError):
        decode(signature + noise, **LIMITS)
