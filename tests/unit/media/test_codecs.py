"""Encoding, decoding and resizing of pictures."""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from stylewire.media import codecs
from stylewire.media.codecs import ImageError, ImageFormat, decode, encode, resize

LIMITS = {"max_bytes": 10**7, "max_pixels": 10**6}
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))


def _smooth(height_px=64, width_px=48, channel_count=3):
    """A picture that lossy formats keep well: uint8[H, W, C]."""
    y, x = np.mgrid[:height_px, :width_px]
    waves = [127 + 100 * np.sin((x * (1 + channel) + y) / 25) for channel in range(channel_count)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def _saved(image, image_format, **options):
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _pixels(image):
    pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)


@given(hnp.arrays(np.uint8, SHAPES))
def test_png_keeps_every_pixel(pixels):
    """A PNG of any size and number of channels decodes to the very pixels."""
    assert np.array_equal(pixels, _pixels(decode(encode(pixels, ImageFormat.PNG), **LIMITS)))


@given(hnp.arrays(np.uint8, SHAPES))
def test_png_is_read_by_other_decoders(pixels):
    """Pillow reads the whole PNG, checksums included, to the very pixels."""
    image = Image.open(BytesIO(encode(pixels, ImageFormat.PNG)))
    image.load()

    assert {} == image.text
    assert np.array_equal(pixels, _pixels(image))


def test_png_of_strided_pixels_is_right():
    """Pixels that are no contiguous block (a flipped view, a crop) are written as seen."""
    pixels = _smooth()[::-1, 3:40]

    assert np.array_equal(pixels, _pixels(decode(encode(pixels, ImageFormat.PNG), **LIMITS)))


@pytest.mark.parametrize("image_format", [ImageFormat.JPEG, ImageFormat.WEBP])
@pytest.mark.parametrize("channel_count", [1, 3])
def test_lossy_formats_stay_close(image_format, channel_count):
    """JPEG and WebP at the default quality stay within a few levels, with the right size and mode."""
    pixels = _smooth(channel_count=channel_count)
    image = decode(encode(pixels, image_format), **LIMITS)
    difference = np.abs(_pixels(image.convert("L" if channel_count == 1 else "RGB")).astype(int) - pixels)
    print(f"{image_format} {channel_count} channels: mean {difference.mean():.2f}, max {difference.max()} levels")

    assert difference.mean() < 3


@pytest.mark.parametrize("channel_count", [2, 4])
def test_webp_keeps_alpha(channel_count):
    """The alpha of a WebP is lossless."""
    pixels = _smooth(channel_count=channel_count)
    image = decode(encode(pixels, ImageFormat.WEBP), **LIMITS)

    assert np.array_equal(pixels[..., -1], np.asarray(image)[..., -1])


@pytest.mark.parametrize("channel_count", [2, 4])
def test_jpeg_of_alpha_is_refused(channel_count):
    """JPEG cannot hold alpha; the error names the formats that can."""
    with pytest.raises(ImageError, match="ask for PNG or WebP"):
        encode(_smooth(channel_count=channel_count), ImageFormat.JPEG)


@pytest.mark.parametrize("image_format", [ImageFormat.JPEG, ImageFormat.WEBP])
def test_quality_decides_the_size(image_format):
    """A higher quality gives a larger file, and unset means the documented default."""
    low, default, unset, high = (len(encode(_smooth(), image_format, quality)) for quality in (10, 90, None, 100))

    assert low < default == unset < high


@pytest.mark.parametrize("quality", [0, -1, 101])
def test_quality_out_of_range_is_refused(quality):
    """Quality outside of 1 to 100 is refused, for PNG too."""
    for image_format in ImageFormat:
        with pytest.raises(ImageError, match="1 to 100"):
            encode(_smooth(), image_format, quality)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 4, 5), (4, 4, 0)])
def test_pixels_of_no_image_are_refused(shape):
    """An empty image or a wrong number of channels is refused."""
    with pytest.raises(ImageError, match="are no image"):
        encode(np.zeros(shape, np.uint8), ImageFormat.PNG)


def test_fallbacks_write_the_same_picture(monkeypatch):
    """Without isal and simplejpeg the same picture comes out: PNG exactly, JPEG within a level on average."""
    fast = decode(encode(_smooth(), ImageFormat.JPEG), **LIMITS)
    monkeypatch.setitem(sys.modules, "isal", None)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    monkeypatch.setattr(codecs, "_deflate", codecs._find_deflate())
    monkeypatch.setattr(codecs, "_encode_jpeg", codecs._find_jpeg())
    slow = decode(encode(_smooth(), ImageFormat.JPEG), **LIMITS)
    difference = np.abs(_pixels(fast).astype(int) - _pixels(slow))
    print(f"simplejpeg against Pillow: mean {difference.mean():.2f}, max {difference.max()} levels")

    assert np.array_equal(_smooth(), _pixels(decode(encode(_smooth(), ImageFormat.PNG), **LIMITS)))
    assert difference.mean() <= 1


def test_resize_reduces_with_lanczos():
    """A smaller resolution equals Pillow's Lanczos; the same one is the same array."""
    pixels = _smooth(64, 64)
    expected = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.LANCZOS))

    assert np.array_equal(expected, resize(pixels, 16))
    assert resize(pixels, 64) is pixels


@pytest.mark.parametrize("channel_count", [1, 2, 3, 4])
def test_resize_keeps_the_channels(channel_count):
    """Every number of channels survives."""
    assert (16, 16, channel_count) == resize(_smooth(64, 64, channel_count), 16).shape


@pytest.mark.parametrize("resolution_px", [0, -4, 65])
def test_resize_does_not_enlarge(resolution_px):
    """Growing is refused and the limit named."""
    with pytest.raises(ImageError, match="1 to 64 px"):
        resize(_smooth(64, 64), resolution_px)


@pytest.mark.parametrize(
    ("image_format", "mode"),
    [("JPEG", mode) for mode in ("L", "RGB")]
    + [(image_format, mode) for image_format in ("PNG", "WEBP") for mode in ("L", "LA", "RGB", "RGBA", "P")],
)
def test_decode_reads_every_mode(image_format, mode):
    """Each mode that a format can hold decodes as Pillow itself reads it."""
    image = Image.fromarray(_smooth()).convert(mode)
    content = _saved(image, image_format)
    expected = Image.open(BytesIO(content))
    found = decode(content, **LIMITS)

    assert (expected.mode, expected.tobytes()) == (found.mode, found.tobytes())


def test_decode_reads_one_bit_as_gray():
    """Black and white becomes gray levels 0 and 255."""
    found = decode(_saved(Image.new("1", (8, 8), 1), "PNG"), **LIMITS)

    assert ("L", 255) == (found.mode, found.getpixel((0, 0)))


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 2}, {"comment": b"x" * 9}, {"quality": 5}])
def test_decode_reads_every_jpeg_as_pillow(options):
    """Progressive, subsampled and commented JPEGs give Pillow's pixels."""
    content = _saved(Image.fromarray(_smooth()), "JPEG", **options)

    assert Image.open(BytesIO(content)).tobytes() == decode(content, **LIMITS).tobytes()


def test_decode_ignores_what_phones_append():
    """Bytes behind the end of a JPEG (previews, motion photos) change nothing, whatever markers they hold."""
    content = _saved(Image.fromarray(_smooth()), "JPEG")

    assert decode(content, **LIMITS).tobytes() == decode(content + b"\xff\xda" * 5000, **LIMITS).tobytes()


def test_decode_ignores_exif_orientation():
    """A picture with an orientation tag is not turned: the encoders were trained that way."""
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode(_saved(Image.fromarray(_smooth(64, 48)), "JPEG", exif=exif), **LIMITS)

    assert (48, 64) == found.size
    assert 0 == len(found.getexif())


def test_decode_is_silent_about_palette_transparency():
    """A palette PNG with transparency decodes and converts without Pillow's warning."""
    image = Image.fromarray(_smooth()).convert("P")
    content = _saved(image, "PNG", transparency=bytes(range(256)))

    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert image.convert("RGB").tobytes() == decode(content, **LIMITS).convert("RGB").tobytes()


def test_encode_and_decode_work_in_threads():
    """Many threads encode and decode different images at once and each gets its own back."""
    pictures = [np.full((33, 35, 3), value, np.uint8) for value in range(48)]

    def round_trip(pixels):
        return [decode(encode(pixels, image_format), **LIMITS) for image_format in ImageFormat]

    with ThreadPoolExecutor(8) as pool:
        for pixels, found in zip(pictures, pool.map(round_trip, pictures), strict=True):
            assert np.array_equal(pixels, np.asarray(found[0]))
            assert all(np.abs(np.asarray(image).astype(int) - pixels).max() <= 3 for image in found[1:])
