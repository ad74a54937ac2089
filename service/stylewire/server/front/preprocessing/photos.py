"""A photo of a request -> the input of an encoder: decode, align, resize, normalize."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
from PIL import Image

from stylewire.errors import UnsupportedError
from stylewire.latents import Array, Array64
from stylewire.manifest import EncoderInfo
from stylewire.media import codecs
from stylewire.media.codecs import ImageError
from stylewire.server.engine_api.models import ModelInfo
from stylewire.server.front.preprocessing.alignment import align
from stylewire.server.front.preprocessing.face_detectors import Art, Face, missing
from stylewire.server.front.preprocessing.transforms import encoder_input, photo_input, sketch_input


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedPhoto:
    """A photo, ready for an encoder.

    Attributes:
        model: whose encoder.
        graph: the encoder's graph.
        kind: what the input shows.
        input: float32[C, H, W].
        face: what it was aligned by, if the server looked for it.
    """

    model: ModelInfo
    graph: str
    kind: Literal["photo", "sketch", "labels"]
    input: Array
    face: Face | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnalignedPhoto:
    """A photo whose face is still to be found.

    Attributes:
        model: whose encoder.
        graph: the encoder's graph.
        kind: what the input will show.
        path: of the photo in the request, for errors.
        content: a PNG, JPEG or WebP file within the limits, not yet decoded.
        art: what kind of face is looked for.
        encoder: what the input is made for.
    """

    model: ModelInfo
    graph: str
    kind: Literal["photo", "sketch", "labels"]
    path: str
    content: bytes
    art: Art
    encoder: EncoderInfo


Photo: TypeAlias = AlignedPhoto | UnalignedPhoto


class LandmarkError(ValueError):
    """The landmarks cannot be those of a face in the picture."""


class ImageLimits(Protocol):
    """The settings that bound a picture, and what faces are found with."""

    @property
    def max_image_bytes(self) -> int:
        """Size of the file."""
        ...

    @property
    def max_image_pixels(self) -> int:
        """Width times height."""
        ...

    @property
    def landmark_model(self) -> Path | None:
        """The file that the operator named."""
        ...


def prepare(
    content: bytes, landmarks: Array64 | None, model: ModelInfo, encoder: EncoderInfo, limits: ImageLimits
) -> AlignedPhoto:
    """Make a photo ready for an encoder.

    Args:
        content: a PNG, JPEG or WebP file.
        landmarks: float64[68, 2] or float64[5, 2] to align the face by; None to take the picture as it is.
        model: whose encoder.
        encoder: which one.
        limits: what is refused before it is decoded.

    Raises:
        ImageError: the picture cannot be used.
        LandmarkError: the landmarks cannot.
    """
    image = codecs.decode(content, max_bytes=limits.max_image_bytes, max_pixels=limits.max_image_pixels)
    if landmarks is not None:
        image = _aligned(image, landmarks, max(encoder.input_height_px, encoder.input_width_px))
    return AlignedPhoto(model=model, graph=encoder.graph, kind=encoder.input_kind, input=encoder_input(image, encoder))


def check_search(content: bytes, art: Art, limits: ImageLimits) -> None:
    """Refuse what can be refused before a face is looked for.

    Args:
        content: a PNG, JPEG or WebP file.
        art: what kind of face is looked for.
        limits: what is refused.

    Raises:
        ImageError: the picture cannot be used.
        UnsupportedError: this server finds no such faces.
    """
    codecs.check(content, max_bytes=limits.max_image_bytes, max_pixels=limits.max_image_pixels)
    if found := missing(art, limits.landmark_model):
        instead = "; or send landmarks" if art == "face" else ""
        raise UnsupportedError(f"this server finds no faces by itself, {found}{instead}")


def prepare_target(content: bytes, landmarks: Array64 | None, model: ModelInfo, limits: ImageLimits) -> Array:
    """Make a photo the picture that a generator is to draw.

    Args:
        content: a PNG, JPEG or WebP file.
        landmarks: as for ``prepare``.
        model: whose generator.
        limits: what is refused before it is decoded.

    Returns:
        float32[C, R, R] in [-1, 1], of the model's size; gray for a model of one channel.

    Raises:
        ImageError: the picture cannot be used.
        LandmarkError: the landmarks cannot.
    """
    side_px = model.manifest.resolution_px
    image = codecs.decode(content, max_bytes=limits.max_image_bytes, max_pixels=limits.max_image_pixels)
    if landmarks is not None:
        image = _aligned(image, landmarks, side_px)
    if model.manifest.image_channels == 1:
        return sketch_input(image, side_px, side_px) * np.float32(2) - np.float32(1)
    return photo_input(image, side_px, side_px)


def _aligned(image: Image.Image, landmarks: Array64, output_px: int) -> Image.Image:
    try:
        return align(image, landmarks, output_px=output_px)
    except ImageError as err:
        raise LandmarkError(str(err)) from err
