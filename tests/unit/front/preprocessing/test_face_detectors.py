"""Faces that are found, how exactly, and what is said where none can be."""

import importlib.metadata
import importlib.util

import numpy as np
import pytest
from PIL import Image

from stylewire.server.front.preprocessing import face_detectors
from support.drawing import drawn_face
from support.face_finding import needs
from support.pictures import astronaut, grains, sheet_of

SEARCH_PX = 1600
EYES = np.array([(202.5, 100.5), (246.3, 103.3)])
"""The pupils of the astronaut, read off the picture by eye."""
MOUTH = np.array([(203.8, 141.2), (244.2, 141.7)])
"""The corners of her mouth."""


@pytest.fixture(scope="module")
def people():
    return face_detectors.open_detector("face", None, SEARCH_PX)


@pytest.fixture(scope="module")
def drawings():
    return face_detectors.open_detector("anime", None, SEARCH_PX)


def distance_px(face, scale=1.0, offset=(0, 0)) -> float:
    """The largest distance of eyes and corners of the mouth from where they are."""
    points = face.landmarks
    found = np.array([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[48], points[54]])
    return float(np.hypot(*(found - (np.vstack([EYES, MOUTH]) * scale + offset)).T).max())


@needs("face")
def test_photograph_has_its_landmarks(people):
    """The one face of the astronaut's photograph is found, with eyes and mouth where a person sees them."""
    face = people.find(astronaut())
    print(f"eyes and mouth are up to {distance_px(face):.1f} px off")

    assert (1, (68, 2)) == (face.count, face.landmarks.shape)
    assert distance_px(face) < 5


@needs("face")
@pytest.mark.parametrize("scale", [2, 6])
def test_large_photograph_has_them_too(people, scale):
    """A photo over the searched size is reduced for the search only: landmarks are those of its own pixels."""
    face = people.find(astronaut().resize((512 * scale, 512 * scale)))
    print(f"scale {scale}: up to {distance_px(face, scale) / scale:.1f} px of the small one off")

    assert 1 == face.count
    assert distance_px(face, scale) < 7 * scale


@needs("face")
@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA"])
def test_photograph_of_any_mode_is_searched(people, mode):
    """Gray, palettes and alpha are no hindrance."""
    assert 1 == people.find(astronaut().convert(mode)).count


@needs("face")
def test_largest_of_several_faces_is_taken(people):
    """Of two faces the larger counts, wherever it is, and both are counted."""
    small, large = astronaut().resize((300, 300)), astronaut()
    face = people.find(sheet_of((small, (0, 0)), (large, (320, 40)), size=(840, 560)))

    assert 2 == face.count
    assert distance_px(face, offset=(320, 40)) < 5


@needs("face")
def test_face_under_a_twentieth_is_missed_in_a_large_photo(people):
    """What ``--face-search-px`` says of small faces: found alone, missed in the corner of a large photo."""
    small = astronaut().resize((400, 400))  # its face is 70 px wide
    large = sheet_of((small, (0, 0)), size=(3200, 800))

    assert 1 == people.find(small).count
    assert people.find(large) is None


@needs("anime")
def test_drawing_has_a_face(drawings):
    """The box around a drawn face has eyes and mouth in it and is no larger than the head."""
    face = drawings.find(drawn_face(256))
    left, top, right, bottom = np.array(face.box) / 256

    assert (1, None) == (face.count, face.landmarks)
    assert 0.17 < left < 0.315
    assert 0.685 < right < 0.83
    assert 0.2 < top < 0.47
    assert 0.69 < bottom < 0.9


@needs("anime")
def test_large_drawing_gives_the_box_of_its_own_pixels(drawings):
    """A drawing over the searched size is reduced for the search only."""
    face = drawings.find(drawn_face(400).resize((2400, 2400)))
    left, top, right, bottom = face.box

    assert 1 == face.count
    assert 0.17 < left / 2400 < 0.315
    assert 0.685 < right / 2400 < 0.83
    assert pytest.approx(right - left) == bottom - top


@needs("anime")
def test_largest_drawing_is_taken(drawings):
    """Of two drawn faces the larger counts."""
    face = drawings.find(sheet_of((drawn_face(150), (0, 0)), (drawn_face(400), (180, 0)), size=(600, 400)))

    assert 2 == face.count
    assert face.box[0] > 180


@needs("face", "anime")
@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(grains(), id="noise"),
        *(pytest.param(Image.new("RGB", size), id=f"{size}") for size in [(1, 1), (1, 3000), (3000, 1), (41, 7)]),
    ],
)
def test_picture_of_nobody_has_no_face(people, drawings, picture):
    """Noise and pictures of a pixel have no face."""
    assert people.find(picture) is None
    assert drawings.find(picture) is None


def test_other_package_than_the_known_one_is_not_trusted(monkeypatch):
    """Another release of animeface may read memory in another way: it is refused by name, not tried."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.1.0")

    assert "it has animeface 2.1.0 and needs 2.0.3: pip install 'stylewire[align]'" == face_detectors.missing(
        "anime", None
    )


@pytest.mark.parametrize(("art", "package"), [("face", "dlib"), ("anime", "animeface")])
def test_missing_package_is_named(monkeypatch, art, package):
    """Without the extra, the message names the package and the extra."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert f"{package} is not installed there: pip install 'stylewire[align]'" == face_detectors.missing(art, None)


def test_missing_landmark_model_is_named(monkeypatch, tmp_path):
    """Without a landmark model, the message names the setting; a given file is enough."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "dlib" else None)

    assert "--landmark-model FILE" in face_detectors.missing("face", None)
    assert "" == face_detectors.missing("face", tmp_path / "model.dat")
