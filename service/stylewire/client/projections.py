"""The progress and the result of Project, read for both clients."""

from collections.abc import Callable
from dataclasses import dataclass, field

from stylewire import pb
from stylewire.client.results import Picture, Timing, read_timing
from stylewire.tensors import Array, to_float_array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProjectionProgress:
    """The state of an optimization.

    Attributes:
        step: steps that are done; 0 is the start.
        step_count: steps in all.
        loss: what is minimized.
        pixel_loss: its part for the values of the picture.
        gradient_loss: its part for the edges of the picture.
        spread: its part for the distance of the code from those of the mapping network, in variances of w.
        distortion: mean squared difference of the picture and the target, over values in [-1, 1].
        picture: after these steps; None unless it was asked for.
    """

    step: int
    step_count: int
    loss: float
    pixel_loss: float
    gradient_loss: float
    spread: float
    distortion: float
    picture: Picture | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Projection:
    """The code that an optimization found.

    Attributes:
        code: float32[L, D]; ``w_plus(code)`` makes a latent of it.
        noise: float32[P], the noise maps for ``stylewire.noise("values", values=...)``; None unless optimized.
        target: the picture that is approximated, as the generator would have to draw it.
        reconstruction: the generator's picture of the code.
        start_distortion: mean squared difference of the first code's picture and the target, over values in [-1, 1].
        distortion: the same of the reconstruction.
        timing: the server's time for the call.
        model_digest: the same digest means the same code.
    """

    code: Array = field(repr=False)
    noise: Array | None = field(repr=False)
    target: Picture
    reconstruction: Picture
    start_distortion: float
    distortion: float
    timing: Timing
    model_digest: str


class ProjectionReader:
    """Reads the stream of Project.

    Args:
        on_progress: called with every step that arrives; None calls nothing.
    """

    def __init__(self, on_progress: Callable[[ProjectionProgress], None] | None = None) -> None:
        self._on_progress = on_progress
        self._last: pb.ProjectResponse | None = None

    def read(self, response: pb.ProjectResponse) -> None:
        """Keep a response, and report its progress."""
        self._last = response
        if self._on_progress and not response.HasField("projection"):
            self._on_progress(read_progress(response))

    def result(self) -> Projection:
        """Return what was found, when the stream has ended."""
        last = self._last
        assert last is not None  # a stream that ends well has the result in its last message
        found = last.projection
        return Projection(
            code=_array(found.code),
            noise=_array(found.noise) if found.HasField("noise") else None,
            target=Picture.read(found.target),
            reconstruction=Picture.read(found.reconstruction),
            start_distortion=found.start_distortion,
            distortion=found.distortion,
            timing=read_timing(last.timing),
            model_digest=last.model_digest,
        )


def read_progress(response: pb.ProjectResponse) -> ProjectionProgress:
    """Convert a response that is not the last one."""
    loss = response.loss
    return ProjectionProgress(
        step=response.step,
        step_count=response.step_count,
        loss=loss.total,
        pixel_loss=loss.pixel,
        gradient_loss=loss.gradient,
        spread=loss.spread,
        distortion=response.distortion,
        picture=Picture.read(response.image) if response.HasField("image") else None,
    )


def _array(tensor: pb.Tensor) -> Array:
    return to_float_array(tensor, tuple(tensor.shape))
