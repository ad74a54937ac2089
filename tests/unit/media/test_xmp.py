"""XMP packets in files: put in, found again, and the picture is what it was."""

import subprocess
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from stylewire.media import codecs, provenance, xmp
from stylewire.media.codecs import ImageError, ImageFormat
from stylewire.media.image_headers import read_header
from stylewire.media.provenance import Provenance
from support.pictures import saved
from support.tools import needs_exiftool

PACKET = provenance.packet(Provenance(source_type=provenance.GENERATED, model="a"))
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
FRAMES = [Image.new("RGB", (9, 7), color) for color in ("red", "green", "blue")]
PHOTO = Image.fromarray(np.random.default_rng(3).integers(0, 256, (17, 30, 4), np.uint8))


def _files():
    """Files of all kinds that can carry a packet, by name."""
    rgb, gray = PHOTO.convert("RGB"), PHOTO.convert("L")
    yield "png", saved(PHOTO)
    yield "png with a palette", saved(rgb.quantize(16))
    yield "png animated", saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:])
    yield "jpeg", saved(rgb, "JPEG")
    yield "jpeg gray, progressive", saved(gray, "JPEG", progressive=True)
    yield "jpeg without JFIF", _without_jfif(saved(rgb, "JPEG"))
    yield "jpeg with Exif", saved(rgb, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    yield "webp", saved(rgb, "WEBP")
    yield "webp lossless", saved(rgb, "WEBP", lossless=True)
    yield "webp lossless with alpha", saved(PHOTO, "WEBP", lossless=True)
    yield "webp lossy with alpha", saved(PHOTO, "WEBP")
    yield "webp animated", saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:])
    yield "gif", saved(rgb.quantize(16), "GIF")
    yield "gif animated", saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:], loop=0)


def _without_jfif(content):
    return content[:2] + content[20:]


def _exiftool(*arguments):
    return subprocess.run(["exiftool", *arguments], capture_output=True, text=True, check=True).stdout


def _shown(content):
    """Size, mode and pixels of all frames."""
    with Image.open(BytesIO(content)) as image:
        frames = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append((image.size, image.mode, image.tobytes()))
        return frames


FILES = dict(_files())
ALL_FILES = pytest.mark.parametrize("content", FILES.values(), ids=FILES)


@ALL_FILES
def test_packet_comes_back(content):
    """A file has no packet before and exactly this one afterwards, of odd and even length."""
    assert xmp.extract(content) is None
    for packet in (PACKET, PACKET + b"\n"):
        assert packet == xmp.extract(xmp.embed(content, packet))


@ALL_FILES
def test_picture_stays_as_it_is(content):
    """Another decoder shows the same frames with and without."""
    assert _shown(content) == _shown(xmp.embed(content, PACKET))


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("gif")])
def test_pillow_finds_the_packet(name):
    """Pillow finds the very bytes; it knows no packets of GIF."""
    with Image.open(BytesIO(xmp.embed(FILES[name], PACKET))) as image:
        image.load()

        assert PACKET == image.info["xmp"]


@needs_exiftool
@ALL_FILES
def test_exiftool_finds_nothing_wrong(content, tmp_path):
    """The structure of the file is valid for a strict reader, as far as it was before."""
    names = []
    for index, each in enumerate((content, xmp.embed(content, PACKET))):
        names.append(tmp_path / f"{index}.bin")
        names[-1].write_bytes(each)
    before, after = (_exiftool("-s3", "-validate", name) for name in names)

    assert before == after
    assert f"{provenance.GENERATED}\n" == _exiftool("-s3", "-XMP-iptcExt:DigitalSourceType", names[1])


@given(hnp.arrays(np.uint8, SHAPES), st.sampled_from(ImageFormat), st.binary(max_size=300))
def test_what_is_encoded_can_carry_any_packet(pixels, image_format, packet):
    """Of any size and number of channels: the size in the header and the decoded pixels stay, the packet comes back."""
    if image_format is ImageFormat.JPEG and pixels.shape[2] in (2, 4):
        pixels = pixels[..., :1]
    plain = codecs.encode(pixels, image_format)
    marked = xmp.embed(plain, packet)
    one, other = (codecs.decode(each, max_bytes=10**6, max_pixels=10**6) for each in (plain, marked))

    assert packet == xmp.extract(marked)
    assert read_header(plain)[:3] == read_header(marked)[:3]
    assert (one.mode, one.tobytes()) == (other.mode, other.tobytes())


def test_packet_of_a_png_comes_before_the_pixels():
    """Whoever reads a stream knows what a picture is before it is there."""
    marked = xmp.embed(FILES["png"], PACKET)

    assert marked.index(PACKET) < marked.index(b"IDAT")


def test_packet_that_is_too_large_is_refused():
    """A packet that no JPEG could hold is refused for every format."""
    with pytest.raises(ImageError, match="65503 bytes"):
        xmp.embed(FILES["png"], bytes(xmp.MAX_PACKET_BYTES + 1))
    largest = bytes(xmp.MAX_PACKET_BYTES)

    assert largest == xmp.extract(xmp.embed(FILES["jpeg"], largest))


@pytest.mark.parametrize("content", [b"", b"BM" + bytes(20), b"RIFF\4\0\0\0WAVE", b"%PDF-1.7"])
def test_other_files_are_refused(content):
    """What is no picture of a known format is named."""
    for call in (xmp.extract, lambda content: xmp.embed(content, PACKET)):
        with pytest.raises(ImageError, match="the content is"):
            call(content)
