"""Jobs -> tasks of a projector, and the way back: what a code is optimized for, what comes, and where the time goes."""

import contextlib
import time
from collections.abc import AsyncGenerator

from stylewire.latents import Array
from stylewire.server import tracing
from stylewire.server.engine.models.model import Model
from stylewire.server.engine.projection.projector import Projector
from stylewire.server.engine.projection.tasks import Found, Progress, Task
from stylewire.server.front.pipeline import jobs
from stylewire.server.front.pipeline.results import Run


def to_task(model: Model, wanted: jobs.Refinement, start: Array, *, encoded: bool) -> Task:
    """Tell a projector what to do.

    Args:
        model: whose generator draws.
        wanted: what it is to draw, and how.
        start: float32[L, D].
        encoded: whether the start is an encoder's answer; else it is the mean code.

    Raises:
        UnsupportedError: the model has no mean code.
    """
    return Task(
        directory=str(model.directory),
        digest=model.digest,
        start=start,
        encoded=encoded,
        mean=model.w_mean,
        target=wanted.target,
        step_count=wanted.step_count,
        seed=wanted.seed,
        noise_sides_px=wanted.noise_sides_px,
        picture_interval=wanted.picture_interval,
    )


def noise_of(state: Found | Progress) -> jobs.Noise:
    """Give the noise that a code was optimized with."""
    return jobs.Noise() if state.noise is None else jobs.Noise(mode=jobs.NoiseMode.VALUES, values=state.noise)


async def events(projector: Projector, task: Task, run: Run) -> AsyncGenerator[Progress | Found]:
    """Run a task; the wait for its turn counts as queue, the steps as inference."""
    submitted, begun = time.monotonic(), None
    async with contextlib.aclosing(projector.project(task, run.deadline)) as found:
        async for event in found:
            if begun is None:
                begun = time.monotonic()
                run.queue_seconds += begun - submitted
                tracing.phase("queue projection", submitted, begun)
            if isinstance(event, Found):
                ended = time.monotonic()
                run.inference_seconds += ended - begun
                tracing.phase("run projection", begun, ended)
            yield event
