"""Encoder inputs against those of the original transforms."""

import json

import numpy as np
import pytest
from PIL import Image

from stylewire.manifest import EncoderInfo
from stylewire.media import codecs
from stylewire.media.codecs import ImageError
from stylewire.server.front.preprocessing.transforms import (
    encoder_input,
    labels_input,
    photo_input,
    reduce_bicubic,
    sketch_input,
)

LIMITS = {"max_bytes": 10**7, "max_pixels": 10**7}


def _results(golden, tasks):
    """Yield (picture, golden bytes, entry) of the index for the tasks."""
    folder = golden / "preprocess"
    for entry in json.loads((folder / "index.json").read_text())["results"]:
        if entry["task"].startswith(tasks) and "result" in entry:
            image = codecs.decode((folder / entry["file"]).read_bytes(), **LIMITS)
            yield image, np.asarray(Image.open(folder / entry["result"])), entry


def _levels(signed):
    """Turn float32[3, H, W] in [-1, 1] back into the bytes it came from."""
    return np.rint((np.moveaxis(signed, 0, -1) + 1) * 127.5).astype(np.uint8)


@pytest.mark.parametrize("task", ["encode", "cars"])
def test_photo_input_equals_the_originals_bytes(golden, task):
    """Every golden photo (RGBA, gray, palette, JPEG, rotated by EXIF) gives the original's bytes; JPEG within 2."""
    for image, expected, entry in _results(golden, task):
        height_px, width_px, _ = expected.shape
        found = _levels(photo_input(image, height_px, width_px))
        difference = int(np.abs(found.astype(int) - expected).max())
        print(f"{entry['result']}: max difference {difference} levels")

        assert difference <= (2 if entry["file"].endswith(".jpg") else 0)


def test_photo_input_equals_the_originals_floats(golden):
    """The floats, not only the bytes, equal the original's."""
    stored = np.load(golden / "preprocess" / "floats.npz")
    image = Image.open(golden / "preprocess" / "photo1_360x480.png")

    assert np.array_equal(stored["float32|photo1_360x480.png|encode"], photo_input(image, 256, 256))


def test_photo_input_maps_every_byte_as_the_original(golden):
    """The float of each of the 256 byte values equals the original's."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    expected = np.load(golden / "preprocess" / "floats.npz")["lut_signed"]

    assert np.array_equal(expected, photo_input(ramp, 16, 16)[0].ravel())


def test_sketch_input_equals_the_original(golden):
    """Gray and colored sketches give the original's bytes, and the stored floats exactly."""
    for image, expected, _ in _results(golden, "sketch"):
        assert np.array_equal(expected, np.rint(sketch_input(image, 256, 256)[0] * 255).astype(np.uint8))

    stored = np.load(golden / "preprocess" / "floats.npz")["float32|sketch0_240x180.png|sketch"]
    found = sketch_input(Image.open(golden / "preprocess" / "sketch0_240x180.png"), 256, 256)

    assert np.array_equal(stored, found)


def test_labels_input_keeps_the_originals_blended_ids(golden):
    """The one-hot channels decode to the ids of the original, those blended between regions included."""
    for image, expected, _ in _results(golden, "seg"):
        found = labels_input(image, 256, 256, label_count=19)

        assert np.array_equal(np.ones((256, 256)), found.sum(axis=0))
        assert np.array_equal(expected, found.argmax(axis=0))


def test_labels_input_refuses_a_palette(golden):
    """A palette PNG is refused with the reason instead of turning colors into ids."""
    content = (golden / "preprocess" / "labels_palette_128x128.png").read_bytes()

    with pytest.raises(ImageError, match="palette"):
        labels_input(codecs.decode(content, **LIMITS), 256, 256, label_count=19)


def test_labels_input_names_an_unknown_id():
    """An id that the encoder does not know is named in the error."""
    with pytest.raises(ImageError, match="holds id 19, this encoder knows 0 to 18"):
        labels_input(Image.new("L", (8, 8), 19), 8, 8, label_count=19)


def test_labels_input_reads_gray_stored_as_rgb():
    """Three equal channels are as good as one; different ones are refused."""
    gray = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 19)

    assert np.array_equal(
        labels_input(gray, 8, 8, label_count=19), labels_input(gray.convert("RGBA"), 8, 8, label_count=19)
    )
    with pytest.raises(ImageError, match="colored"):
        labels_input(Image.new("RGB", (8, 8), (1, 2, 3)), 8, 8, label_count=19)


def test_photo_input_reduces_as_the_original(golden):
    """Super-resolution inputs equal the original's but for the truncation: one level, in at most 5 % of the values."""
    for image, expected, entry in _results(golden, "super_resolution"):
        found = _levels(photo_input(image, 256, 256, reduction=entry["factor"]))
        difference = np.abs(found.astype(int) - expected)
        share = float((difference > 0).mean())
        print(f"{entry['result']}: max difference {difference.max()} levels in {share:.4%} of the values")

        assert 1 >= difference.max()
        assert share <= 0.05


def test_encoder_input_reduces_by_the_encoders_factor(golden):
    """The factor of the manifest is the factor of the original's transform."""
    for image, expected, entry in _results(golden, "super_resolution"):
        encoder = EncoderInfo(
            graph="encoder",
            task="super_resolution",
            input_kind="photo",
            input_channels=3,
            input_height_px=256,
            input_width_px=256,
            reduction=entry["factor"],
        )

        assert np.abs(_levels(encoder_input(image, encoder)).astype(int) - expected).max() <= 1


def test_reduce_bicubic_equals_the_original_before_rounding(golden):
    """The reduced picture equals the original's floats within float32 rounding."""
    stored = np.load(golden / "preprocess" / "floats.npz")["float32|photo0_300x200.png|low_x4_before_rounding"]
    photo = Image.open(golden / "preprocess" / "photo0_300x200.png").resize((256, 256), Image.Resampling.BILINEAR)
    expected = np.moveaxis(stored, 0, -1).clip(0, 1)
    difference = float(np.abs(expected - reduce_bicubic(np.asarray(photo), 4) / 255).max())
    print(f"max difference {difference:.2e}")

    assert difference <= 1e-6


@pytest.mark.parametrize(("kind", "channels"), [("photo", 3), ("sketch", 1), ("labels", 19)])
def test_encoder_input_has_the_encoders_shape(kind, channels):
    """Each kind of encoder gets a contiguous float32 array of exactly its input's shape."""
    encoder = EncoderInfo(
        graph="encoder",
        task="encode",
        input_kind=kind,
        input_channels=channels,
        input_height_px=24,
        input_width_px=32,
    )
    found = encoder_input(Image.new("L", (50, 40), 7), encoder)

    assert ((channels, 24, 32), np.float32, True) == (found.shape, found.dtype, found.flags.c_contiguous)
