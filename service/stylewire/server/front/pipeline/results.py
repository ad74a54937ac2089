"""What jobs result in: plain arrays and bytes; ``api/responses.py`` makes messages of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stylewire.latents import Array
from stylewire.server.context import Timings
from stylewire.server.engine_api.projection import Progress
from stylewire.server.front.preprocessing.face_detectors import Face


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image in the form that was asked for: a file (with its media type) or an array."""

    width_px: int
    height_px: int
    content: bytes = b""
    mime_type: str = ""
    array: NDArray[np.uint8] | NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class ImagesResult:
    """Images with their codes, float32[L, D] each, and where the time went."""

    images: list[Image]
    codes: list[Array]
    timings: Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionStep:
    """Progress of an optimization, with the image if it is to be shown."""

    progress: Progress
    image: Image | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectResult:
    """The end of an optimization.

    Attributes:
        last: the last step.
        code: float32[L, D].
        noise: float32[P], if it was optimized.
        target: the image that was wanted.
        reconstruction: the image of the code.
        start_distortion: of the first code.
        distortion: of this one.
        timings: where the time went.
    """

    last: Progress
    code: Array
    noise: Array | None
    target: Image
    reconstruction: Image
    start_distortion: float
    distortion: float
    timings: Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertResult:
    """A code float32[L, D] with what shows how good it is.

    Attributes:
        code: of the photo.
        face: what the photo was aligned by, if the server looked for it.
        aligned: what the encoder saw; None for label maps.
        reconstruction: the image of the code, if it was asked for.
        distortion: mean squared difference of the two over values in [-1, 1]; None where they cannot be compared.
        timings: where the time went.
    """

    code: Array
    face: Face | None
    aligned: Image | None
    reconstruction: Image | None
    distortion: float | None
    timings: Timings
