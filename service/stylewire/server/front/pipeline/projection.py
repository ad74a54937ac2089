"""Codes that are optimized: Project, and what Invert does beyond the encoder's code."""

import contextlib
import time
from collections.abc import AsyncGenerator

from stylewire import latents
from stylewire.latents import Array
from stylewire.server.context import RequestContext
from stylewire.server.engine_api.engine import Engine
from stylewire.server.engine_api.models import ModelInfo
from stylewire.server.engine_api.projection import Found, Progress, ProjectionRequest
from stylewire.server.front.pipeline import jobs, rendering
from stylewire.server.front.pipeline.pipeline import Pipeline
from stylewire.server.front.pipeline.results import ProjectionStep, ProjectResult


def to_request(
    model: ModelInfo, wanted: jobs.Refinement, start: Array, call: RequestContext, *, encoded: bool
) -> ProjectionRequest:
    """Make the request for the engine.

    Args:
        model: whose generator draws.
        wanted: what it is to draw, and how.
        start: float32[L, D].
        call: for which.
        encoded: whether the start is an encoder's code; else it is the mean code.

    Raises:
        UnsupportedError: the model has no mean code.
    """
    _ = model.mean_code  # the engine needs it
    return ProjectionRequest(
        model=model,
        start=start,
        encoded=encoded,
        target=wanted.target,
        step_count=wanted.step_count,
        seed=wanted.seed,
        noise_sides_px=wanted.noise_sides_px,
        picture_interval=wanted.picture_interval,
        deadline=call.deadline,
    )


def noise_of(state: Found | Progress) -> jobs.Noise:
    """Return the noise that a code was optimized with."""
    return jobs.Noise() if state.noise is None else jobs.Noise(mode=jobs.NoiseMode.VALUES, values=state.noise)


async def events(engine: Engine, request: ProjectionRequest, call: RequestContext) -> AsyncGenerator[Progress | Found]:
    """Run a projection; the wait for its turn counts as queue, the steps as inference."""
    submitted, begun = time.monotonic(), None
    async with contextlib.aclosing(engine.project(request)) as found:
        async for event in found:
            if begun is None:
                begun = time.monotonic()
                call.timings.queue_seconds += begun - submitted
                call.phase("queue projection", submitted, begun)
            if isinstance(event, Found):
                ended = time.monotonic()
                call.timings.inference_seconds += ended - begun
                call.phase("run projection", begun, ended)
            yield event


async def refine(engine: Engine, model: ModelInfo, wanted: jobs.Refinement, code: Array, call: RequestContext) -> Array:
    """Improve an encoder's code float32[L, D]."""
    request = to_request(model, wanted, code, call, encoded=True)
    async with contextlib.aclosing(events(engine, request, call)) as found:
        async for event in found:
            if isinstance(event, Found):
                code = event.code
    return code


async def project(
    pipeline: Pipeline, job: jobs.ProjectJob, call: RequestContext
) -> AsyncGenerator[ProjectionStep | ProjectResult]:
    """Optimize a code toward an image: the steps that the reader takes, then what was found."""
    wanted, model, last = job.refinement, job.model, None
    pipeline.engine.check_projection(model, wanted.step_count, call.deadline)
    if job.photo:
        photos = await pipeline.aligner.align([job.photo], call)
        (start,) = await pipeline.encode(photos, call)
    else:
        start = latents.broadcast(model.mean_code, model.manifest.layer_count)
    request = to_request(model, wanted, start, call, encoded=job.photo is not None)
    async with contextlib.aclosing(events(pipeline.engine, request, call)) as found:
        async for event in found:
            if isinstance(event, Found):
                assert last is not None
                yield await _result(pipeline, job, call, start=start, last=last, found=event)
            else:
                last, image = event, None
                if event.code is not None:
                    image, _ = await pipeline.reconstruct(job, event.code, noise_of(event), call)
                yield ProjectionStep(progress=event, image=image)


async def _result(  # noqa: PLR0913 - what it is made of
    pipeline: Pipeline, job: jobs.ProjectJob, call: RequestContext, *, start: Array, last: Progress, found: Found
) -> ProjectResult:
    """Draw what was found beside what it started from."""
    wanted, executor = job.refinement.target, pipeline.executor
    seen = rendering.show_target(wanted)
    _, before = await pipeline.reconstruct(job, start, jobs.Noise(), call)
    image, after = await pipeline.reconstruct(job, found.code, noise_of(found), call)
    start_distortion = await call.timed("distortion", executor, rendering.distortion, before, seen)
    distortion = await call.timed("distortion", executor, rendering.distortion, after, seen)
    assert start_distortion is not None
    assert distortion is not None
    return ProjectResult(
        last=last,
        code=found.code,
        noise=found.noise,
        target=await call.timed("encode_target", executor, rendering.encode_target, wanted, job.output),
        reconstruction=image,
        start_distortion=start_distortion,
        distortion=distortion,
        timings=call.timings,
    )
