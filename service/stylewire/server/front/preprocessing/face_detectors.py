"""Images -> faces: dlib for people, animeface (by ``animeface.py``) for drawings. Both are optional.

Runs in a process of its own (``face_search_process.py``): loading dlib's models holds the GIL for a second.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from PIL import Image

from stylewire.latents import Array64
from stylewire.server.front.preprocessing import animeface
from stylewire.server.front.preprocessing.alignment import Box

Art: TypeAlias = Literal["face", "anime"]
"""The face of a person in a photograph, or of a figure in a drawing."""

_SURE_SCORE = 0.3
"""Where dlib is so sure of a face, doubtful ones beside it do not count: most are folds of cloth."""
_MODEL_PACKAGE, _MODEL_FILE = "face_recognition_models", "models/shape_predictor_68_face_landmarks.dat"


@dataclass(frozen=True, slots=True)
class Face:
    """The largest face of an image.

    Attributes:
        count: the faces in the image.
        box: as the detector returns it.
        landmarks: float64[68, 2], (x, y) in pixels of the image; None for drawings.
    """

    count: int
    box: Box
    landmarks: Array64 | None = None


class Detector(Protocol):
    """Looks for faces."""

    def find(self, image: Image.Image) -> Face | None:
        """Find the largest face of an image of any mode; None if there is none."""
        ...


def landmark_model(given: Path | None) -> Path | None:
    """Find the file of dlib's landmark model: the given one, or that of the package face_recognition_models."""
    if given:
        return given
    # Not imported: the package needs pkg_resources, which is no longer part of setuptools.
    spec = importlib.util.find_spec(_MODEL_PACKAGE)
    places = spec.submodule_search_locations if spec else None
    return next((path for place in places or () if (path := Path(place) / _MODEL_FILE).is_file()), None)


def missing(art: Art, model: Path | None) -> str:
    """Return what has to be installed or set before faces can be found; empty if nothing is missing.

    Args:
        art: what is looked for.
        model: the setting ``landmark_model``.
    """
    if art == "anime":
        return animeface.missing()
    if importlib.util.find_spec("dlib") is None:
        return "dlib is not installed there: pip install 'stylewire[align]'"
    if landmark_model(model) is None:
        return "it has no landmark model: start it with --landmark-model FILE, or install face-recognition-models there"
    return ""


def open_detector(art: Art, model: Path | None, search_px: int) -> Detector:
    """Load a detector; nothing may be missing.

    Args:
        art: what is looked for.
        model: the setting ``landmark_model``.
        search_px: longest side at which an image is searched.
    """
    if art == "anime":
        return AnimeDetector(search_px)
    path = landmark_model(model)
    assert path is not None
    return FaceDetector(path, search_px)


class FaceDetector:
    """dlib's frontal faces (histograms of oriented gradients) and its 68 landmarks, as pSp's script uses them.

    Faces of 80 px and more are found in what is searched: small images are doubled, as in the script, larger ones
    resized to ``search_px``. Landmarks are found in the image at its own size.

    Args:
        model: file of the landmark model.
        search_px: longest side at which an image is searched.
    """

    def __init__(self, model: Path, search_px: int) -> None:
        import dlib  # noqa: PLC0415 - an extra

        self._detector: Any = dlib.get_frontal_face_detector()
        self._landmarks: Any = dlib.shape_predictor(str(model))
        self._rectangle: Any = dlib.rectangle
        self._search_px = search_px

    def find(self, image: Image.Image) -> Face | None:
        """Find the largest face, with landmarks float64[68, 2]."""
        pixels = np.asarray(image.convert("RGB"))  # [H, W, 3]
        scale = self._search_px / max(image.size)
        if scale >= 2:
            found, scores, _ = self._detector.run(pixels, 1)  # doubles it, and returns boxes of the image as it was
            scale = 1.0
        else:
            found, scores, _ = self._detector.run(np.asarray(_resized(image, scale)), 0)
        least = _SURE_SCORE if max(scores, default=0) >= _SURE_SCORE else 0
        boxes = [
            _scaled((r.left(), r.top(), r.right(), r.bottom()), 1 / scale)
            for r, score in zip(found, scores, strict=True)
            if score >= least
        ]
        if not boxes:
            return None
        box = max(boxes, key=_area)
        shape = self._landmarks(pixels, self._rectangle(*(round(each) for each in box)))
        points = [(point.x, point.y) for point in shape.parts()]
        return Face(len(boxes), box, np.array(points, np.float64))


class AnimeDetector:
    """animeface, which finds faces of 43 px and more; small images are doubled here too.

    Args:
        search_px: longest side at which a photograph would be searched; drawings are searched at half of it.
    """

    def __init__(self, search_px: int) -> None:
        # The same share of the image as dlib's 80 px; and large faces with soft lines are missed in large images.
        self._search_px = search_px / 2

    def find(self, image: Image.Image) -> Face | None:
        """Find the largest face, without landmarks."""
        scale = min(2.0, self._search_px / max(image.size))
        boxes = [_scaled(box, 1 / scale) for box in animeface.find_boxes(_resized(image, scale))]
        return Face(len(boxes), max(boxes, key=_area)) if boxes else None


def _resized(image: Image.Image, scale: float) -> Image.Image:
    image = image.convert("RGB")
    if scale == 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _scaled(box: Box, factor: float) -> Box:
    left, top, right, bottom = (each * factor for each in box)
    return left, top, right, bottom


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
