"""Validated requests: plain arrays, no protobuf, complete when they are made. ``api/requests.py`` makes them."""

from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Literal, TypeAlias

from stylewire.keyframes import Easing
from stylewire.latents import Array
from stylewire.media.codecs import ImageFormat
from stylewire.server.engine_api.models import ModelInfo
from stylewire.server.front.preprocessing.photos import Photo

OutputForm: TypeAlias = ImageFormat | Literal["tensor", "pixels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Where a code comes from: exactly one of z, code and photo is set.

    Attributes:
        model: whose mapping network, mean or encoder makes the code.
        z: float32[Z].
        seed: what z was drawn from, if it was.
        label: float32[label_dim], for z of a conditional model.
        code: float32[L, D].
        psi: truncation; None for none.
        truncated_layers: the rows it applies to.
    """

    model: ModelInfo
    z: Array | None = None
    seed: int | None = None
    label: Array | None = None
    code: Array | None = None
    photo: Photo | None = None
    psi: float | None = None
    truncated_layers: slice = field(default_factory=lambda: slice(None))


class NoiseMode(Enum):
    """How pixel noise enters the synthesis network."""

    CONST = "const"
    NONE = "none"
    RANDOM = "random"
    VALUES = "values"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Pixel noise; image k of a job uses seed + k, all use the same values float32[P]."""

    mode: NoiseMode = NoiseMode.CONST
    seed: int = 0
    strength: float = 1.0
    values: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The form of pictures; ``resolution_px`` None for the model's own."""

    form: OutputForm = ImageFormat.PNG
    quality: int | None = None
    resolution_px: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Layers that one latent lends to another."""

    latent: Latent
    layers: slice
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateJob:
    """One picture for each latent."""

    model: ModelInfo
    latents: tuple[Latent, ...]
    noise: Noise
    output: Output


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertJob:
    """The code of a photo; ``return_reconstruction`` also makes the picture of the code."""

    model: ModelInfo
    photo: Photo
    return_reconstruction: bool
    output: Output
    refinement: "Refinement | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """How a code is optimized.

    Attributes:
        target: float32[C, R, R] in [-1, 1], the image that it is to reach.
        step_count: at least 1.
        seed: of what is random.
        noise_sides_px: of the noise maps that are optimized too; empty for the stored ones.
        picture_interval: every so many steps the progress has a picture; 0 for never.
    """

    target: Array
    step_count: int
    seed: int = 0
    noise_sides_px: tuple[int, ...] = ()
    picture_interval: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectJob:
    """A code that is optimized; without a photo for an encoder, it starts at the mean."""

    model: ModelInfo
    photo: Photo | None
    refinement: Refinement
    output: Output


@dataclass(frozen=True, slots=True, kw_only=True)
class MixJob:
    """One latent with layers of others."""

    model: ModelInfo
    content: Latent
    styles: tuple[Style, ...]
    noise: Noise
    output: Output


class Method(Enum):
    """The path between keyframes."""

    LERP = "lerp"
    SLERP = "slerp"
    CUBIC = "cubic"


class Container(Enum):
    """The form of a video file."""

    MP4 = "mp4"
    WEBM = "webm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """How frames become a video file.

    Attributes:
        container: decides the codec too.
        frame_rate: frames a second.
        quality: in [1, 100], when ``bits_per_second`` is None.
        bits_per_second: on average; None for as many as the quality needs.
    """

    container: Container
    frame_rate: Fraction
    quality: int
    bits_per_second: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpolateJob:
    """A path through keyframes and its frames; with ``video`` the form of its output is ``pixels``."""

    model: ModelInfo
    keyframes: tuple[Latent, ...]
    frame_count: int
    method: Method
    easing: Easing
    looped: bool
    noise: Noise
    output: Output
    video: Video | None = None
