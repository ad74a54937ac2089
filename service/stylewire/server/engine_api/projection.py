"""A code that is optimized: what is asked for, and what comes."""

from dataclasses import dataclass

from stylewire.latents import Array
from stylewire.server.engine_api.models import ModelInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionRequest:
    """A code to be moved until its image is the target.

    Attributes:
        model: whose generator draws; leased by the caller.
        start: float32[L, D].
        encoded: whether the start is an encoder's code; else it is the mean code.
        target: float32[C, R, R] in [-1, 1].
        step_count: at least 1.
        seed: of what is random.
        noise_sides_px: of the noise maps that are optimized too; empty for the stored ones.
        picture_interval: every so many steps the progress has the code, for an image; 0 for never.
        deadline: in seconds of ``time.monotonic``; None for no limit.
    """

    model: ModelInfo
    start: Array
    encoded: bool
    target: Array
    step_count: int
    seed: int = 0
    noise_sides_px: tuple[int, ...] = ()
    picture_interval: int = 0
    deadline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A step that was made; 0 is the start.

    Attributes:
        step: its number.
        loss: what is minimized.
        pixel: part of it: difference of the images' values.
        gradient: part of it: difference of their edges.
        spread: part of it: distance of the code from mapped ones, in variances of w.
        correlation: part of it: of neighbors within the noise maps; 0 for the stored ones.
        distortion: mean squared difference of image and target, over values in [-1, 1].
        code: float32[L, D], if its image is to be shown.
        noise: float32[P], with a code, if the maps are optimized.
    """

    step: int
    loss: float
    pixel: float
    gradient: float
    spread: float
    correlation: float
    distortion: float
    code: Array | None = None
    noise: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The end of a projection.

    Attributes:
        code: float32[L, D].
        noise: float32[P], if it was optimized.
    """

    code: Array
    noise: Array | None = None


def noise_sides(layer_sides_px: tuple[int, ...], noise_size: int) -> tuple[int, ...]:
    """Find the sides of a generator's noise maps; empty where they do not follow from its layers.

    StyleGAN2 has a map for every layer but the last, which only draws; StyleGAN1 one for each resolution.

    Args:
        layer_sides_px: resolutions of the layers.
        noise_size: P, what all maps together must have.
    """
    for sides in (layer_sides_px[:-1], tuple(sorted(set(layer_sides_px)))):
        if noise_size and sum(side * side for side in sides) == noise_size:
            return sides
    return ()
