"""Project for both clients: its request from plain arguments, its progress and its answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, Unpack, get_args

from stylewire import pb
from stylewire.client.inputs import PhotoLike, check_word, image_source
from stylewire.client.requests import OutputOptions, output_config
from stylewire.client.results import Picture, Timing, read_timing
from stylewire.tensors import Array, to_float_array

Start: TypeAlias = Literal["encoder", "mean"]


class ProjectOptions(OutputOptions, total=False):
    """What ``Client.project`` takes besides the picture.

    Attributes:
        steps: of the optimization; 100 by default.
        start: ``encoder`` (its answer; the default where there is one) or ``mean`` (the mean code).
        optimize_noise: also optimize the noise maps, which then belong to the code.
        seed: of what is random; 0 by default.
        picture_interval: every so many steps the progress has a picture; by default never.
        model: the model's name; the server's default model by default.
        encoder: which encoder; by default the model's only one, or the one named ``encoder``.
        landmarks: 5 or 68 points (x, y) of a face in pixels of the picture.
        align: crop the face as the FFHQ data set does; needs ``landmarks``.
    """

    steps: int | None
    start: Start | None
    optimize_noise: bool
    seed: int | None
    picture_interval: int
    model: str
    encoder: str
    landmarks: Sequence[tuple[float, float]] | None
    align: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProjectionProgress:
    """How an optimization goes.

    Attributes:
        step: steps that are done; 0 tells of the start.
        step_count: steps in all.
        loss: what is minimized.
        pixel_loss: its part for the values of the picture.
        gradient_loss: its part for the edges of the picture.
        spread: its part for the distance of the code from those of the mapping network, in variances of w.
        distortion: mean squared difference of the picture and the one that is wanted, over values in [-1, 1].
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
        target: the picture that was wanted, as the generator would have to draw it.
        reconstruction: the generator's picture of the code.
        start_distortion: mean squared difference of the first code's picture and the target, over values in [-1, 1].
        distortion: the same of the reconstruction.
        timing: the server's time for the call.
        model_digest: the same digest gives the same code.
    """

    code: Array = field(repr=False)
    noise: Array | None = field(repr=False)
    target: Picture
    reconstruction: Picture
    start_distortion: float
    distortion: float
    timing: Timing
    model_digest: str


def project_request(  # noqa: PLR0913 - the request's fields, keyword-only
    picture: PhotoLike,
    *,
    steps: int | None = None,
    start: Start | None = None,
    optimize_noise: bool = False,
    seed: int | None = None,
    picture_interval: int = 0,
    model: str = "",
    encoder: str = "",
    landmarks: Sequence[tuple[float, float]] | None = None,
    align: bool = False,
    **output: Unpack[OutputOptions],
) -> pb.ProjectRequest:
    """Make the request of ``Client.project``; see ``ProjectOptions``."""
    if start is not None:
        check_word("start", start, get_args(Start))
    return pb.ProjectRequest(
        model=model,
        image=image_source(picture, encoder=encoder, landmarks=landmarks, align=align),
        step_count=steps,
        start=pb.ProjectRequest.Start.Value(f"START_{(start or 'unspecified').upper()}"),
        noise_optimized=optimize_noise,
        seed=seed,
        picture_interval=picture_interval,
        output_config=output_config(**output),
    )


class ProjectionReader:
    """Reads the messages of Project.

    Args:
        on_progress: told of every step that arrives; None for nobody.
    """

    def __init__(self, on_progress: Callable[[ProjectionProgress], None] | None = None) -> None:
        self._on_progress = on_progress
        self._last: pb.ProjectResponse | None = None

    def read(self, response: pb.ProjectResponse) -> None:
        """Read one message."""
        self._last = response
        if self._on_progress and not response.HasField("projection"):
            self._on_progress(read_progress(response))

    def result(self) -> Projection:
        """Give what was found, when the stream has ended."""
        last = self._last
        assert last is not None  # a stream that ends well has the answer in its last message
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
    """Read how it goes."""
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
