"""Messages between the server and the process that optimizes."""

from dataclasses import dataclass
from typing import NamedTuple

from stylewire.latents import Array


class WorkerOptions(NamedTuple):
    """How the process computes; the first message to it.

    Attributes:
        device: such as ``cpu`` or ``cuda:0``.
        threads: that PyTorch computes with.
    """

    device: str
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A code to be moved until its image is the target.

    Attributes:
        directory: of the model.
        digest: of the model, so that one that was replaced meanwhile is noticed.
        start: float32[L, D].
        encoded: whether the start is an encoder's answer; else it is the mean code.
        mean: float32[D], of the mapping network's codes.
        target: float32[C, R, R] in [-1, 1].
        step_count: at least 1.
        seed: of what is random.
        noise_sides_px: of the noise maps that are optimized too; empty for the stored ones.
        picture_interval: every so many steps the progress has the code, for an image; 0 for never.
    """

    directory: str
    digest: str
    start: Array
    encoded: bool
    mean: Array
    target: Array
    step_count: int
    seed: int = 0
    noise_sides_px: tuple[int, ...] = ()
    picture_interval: int = 0

    def shows(self, step: int) -> bool:
        """Whether the progress of a step has the code."""
        return self.picture_interval > 0 and step % self.picture_interval == 0


class Cancel(NamedTuple):
    """To the process: the task in flight is not wanted any more. Ignored if it has just ended."""


class Cancelled(NamedTuple):
    """From the process: the end of a task that was cancelled."""


class Failed(NamedTuple):
    """From the process: the end of a task that failed.

    Attributes:
        reason: of a ``StylewireError``; empty for any other exception.
        message: for the caller, or the traceback of another exception.
    """

    reason: str
    message: str
