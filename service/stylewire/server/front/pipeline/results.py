"""What jobs give: plain arrays and bytes; ``servicers.py`` turns them into messages."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stylewire.latents import Array
from stylewire.server.engine.batching.batch import BatchResult
from stylewire.server.engine.projection.tasks import Progress


@dataclass(slots=True)
class Run:
    """A job under way: until when it is wanted, and where its time goes.

    Attributes:
        deadline: on the monotonic clock; None for no limit.
        queue_seconds: waiting for graphs, summed.
        inference_seconds: running graphs, summed.
        encoding_seconds: everything about pictures that is not a graph.
        batch_size: rows of the largest batch of the graph that ran last.
    """

    deadline: float | None
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    encoding_seconds: float = 0.0
    batch_size: int = 0

    def add(self, result: BatchResult) -> None:
        """Count a graph that ran."""
        self.queue_seconds += result.queue_seconds
        self.inference_seconds += result.run_seconds
        self.encoding_seconds += result.convert_seconds
        self.batch_size = result.batch_size

    def merge(self, other: "Run") -> None:
        """Count what another job did, for an answer to both."""
        self.queue_seconds += other.queue_seconds
        self.inference_seconds += other.inference_seconds
        self.encoding_seconds += other.encoding_seconds
        self.batch_size = other.batch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture in the form that was asked for: a file (with its media type) or an array."""

    width_px: int
    height_px: int
    content: bytes = b""
    mime_type: str = ""
    array: NDArray[np.uint8] | NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Pictures with their codes, float32[L, D] each."""

    pictures: list[Picture]
    codes: list[Array]
    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionStep:
    """Progress of an optimization, with the picture if it is to be shown."""

    progress: Progress
    picture: Picture | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionAnswer:
    """The end of an optimization.

    Attributes:
        last: the last step.
        code: float32[L, D].
        noise: float32[P], if it was optimized.
        target: the picture that was wanted.
        reconstruction: the picture of the code.
        start_distortion: of the first code.
        distortion: of this one.
    """

    last: Progress
    code: Array
    noise: Array | None
    target: Picture
    reconstruction: Picture
    start_distortion: float
    distortion: float
    run: Run


@dataclass(frozen=True, slots=True)
class InvertAnswer:
    """A code with what shows how good it is."""

    code: Array
    aligned: Picture | None
    reconstruction: Picture | None
    distortion: float | None
    run: Run
