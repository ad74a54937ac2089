"""Alignment against the crops that the original scripts cut, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from stylewire.media.codecs import ImageError
from stylewire.server.front.preprocessing import alignment
from stylewire.server.front.preprocessing.alignment import align, align_box


def _face(center=(150.0, 140.0), scale=1.0):
    """Five points of an upright face: left eye, right eye, nose, left and right corner of the mouth."""
    points = np.array([[-30, -20], [30, -20], [0, 5], [-25, 35], [25, 35]], np.float64)
    return points * scale + np.asarray(center)


def _photo(width_px=300, height_px=280):
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height_px, width_px, 3), np.uint8))


def _cases(golden):
    index = json.loads((golden / "align" / "index.json").read_text())
    for case in index["cases"]:
        image = Image.open(golden / "align" / case["image"])
        landmarks = np.load(golden / "align" / case["landmarks"]).astype(np.float64)
        for variant in [case["psp"], *case["ffhq"]]:
            yield image, landmarks, variant


def test_align_cuts_the_pixels_of_the_originals(golden):
    """Every golden crop, pSp's and FFHQ's, is reproduced: one level for another Pillow or BLAS, and rarely."""
    worst = []
    for image, landmarks, variant in _cases(golden):
        aligned = align(
            image,
            landmarks,
            output_px=variant["output_size"],
            transform_px=variant["transform_size"],
            rotated=variant.get("rotate_level", True),
        ).crop(variant.get("stored_crop"))
        expected = np.asarray(Image.open(golden / "align" / variant["result"]).convert("RGB"), np.int16)
        difference = np.abs(np.asarray(aligned, np.int16) - expected)
        print(f"{variant['result']}: max {difference.max()} levels, mean {difference.mean():.6f}")
        worst.append((int(difference.max()), float(difference.mean())))

    assert 12 == len(worst)
    assert all(largest <= 1 and mean <= 0.001 for largest, mean in worst)


def test_align_takes_five_points_for_the_same_crop(golden):
    """Five points that equal the 68 points' eyes and mouth corners give the same pixels."""
    for image, landmarks, _ in _cases(golden):
        eyes = [landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)]
        five = np.array([*eyes, landmarks[30], landmarks[48], landmarks[54]])

        assert align(image, landmarks).tobytes() == align(image, five).tobytes()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_align_accepts_every_mode(mode):
    """A photo of any mode gives an RGB crop, also where it must be padded."""
    aligned = align(_photo().convert(mode), _face(center=(20, 20)), output_px=64)

    assert ("RGB", (64, 64)) == (aligned.mode, aligned.size)


@pytest.mark.parametrize("sigma_px", [0.4, 4.9, 13.1])
@pytest.mark.parametrize("shape", [(9, 300, 3), (128, 64, 1), (301, 77, 3)])
def test_gaussian_equals_scipy(sigma_px, shape):
    """The blur equals SciPy's within float32 rounding, also where the kernel is longer than the image."""
    pixels = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    expected = ndimage.gaussian_filter(pixels, [sigma_px, sigma_px, 0])
    difference = float(np.abs(expected - alignment.gaussian(pixels, sigma_px)).max())
    print(f"gaussian {shape} sigma {sigma_px}: max difference {difference:.2e}")

    assert difference <= 2e-5


@pytest.mark.parametrize(
    ("landmarks", "reason"),
    [
        pytest.param(np.zeros((67, 2)), "68 or 5 points", id="count"),
        pytest.param(np.zeros((5, 3)), "68 or 5 points", id="axes"),
        pytest.param(_face(center=(5000, 100)), "far outside", id="far"),
        pytest.param(_face() * np.nan, "far outside", id="nan"),
        pytest.param(_face() * np.inf, "far outside", id="infinite"),
        pytest.param(np.full((68, 2), 50.0), "at least 16 px", id="one point"),
        pytest.param(_face(scale=0.01), "at least 16 px", id="tiny"),
        pytest.param(_face(center=(-200, -200)), "outside of the photo", id="beside"),
    ],
)
def test_align_refuses_landmarks_of_no_face(landmarks, reason):
    """Landmarks that cannot belong to the photo are refused with the reason."""
    with pytest.raises(ImageError, match=reason):
        align(_photo(), landmarks)


def test_align_refuses_a_face_far_larger_than_the_photo():
    """A crop that would shrink the photo to nothing is refused, not computed."""
    with pytest.raises(ImageError, match="far larger than the photo"):
        align(_photo(2000, 2), _face(center=(1000, 0), scale=25))


def test_align_box_cuts_one_and_a_half_times_the_box():
    """The crop of a drawn face is the square of 1.5 times the side about the box's center, pixel for pixel."""
    photo = _photo()
    aligned = align_box(photo, (100, 90, 140, 130), output_px=60)

    assert photo.crop((90, 80, 150, 140)).tobytes() == aligned.tobytes()


def test_align_box_pads_where_the_square_leaves_the_picture():
    """A box at the rim gives a whole square, with the picture's pixels where there are any."""
    photo = Image.new("RGB", (300, 280), (10, 200, 30))
    aligned = align_box(photo, (0, 0, 80, 80), output_px=120)

    assert (120, 120) == aligned.size
    assert np.all(np.abs(np.asarray(aligned, np.int16) - (10, 200, 30)) <= 1)


def test_align_box_refuses_what_is_no_face():
    """A box of a few pixels is refused."""
    with pytest.raises(ImageError, match="at least 16 px"):
        align_box(_photo(), (50, 50, 60, 60))
