"""Invert: photo -> code, and on request the image of the code."""

from stylewire.server.context import RequestContext
from stylewire.server.front.pipeline import jobs, projection, rendering
from stylewire.server.front.pipeline.pipeline import Pipeline
from stylewire.server.front.pipeline.results import InvertResult


async def invert(pipeline: Pipeline, job: jobs.InvertJob, call: RequestContext) -> InvertResult:
    """Find the code of a photo; on request also make the image of the code and measure how far off it is."""
    engine, executor, refinement = pipeline.engine, pipeline.executor, job.refinement
    if refinement:
        engine.check_projection(job.model, refinement.step_count, call.deadline)
    (photo,) = await pipeline.aligner.align([job.photo], call)
    (code,) = await pipeline.encode([photo], call)
    if refinement:
        code = await projection.refine(engine, job.model, refinement, code, call)
    seen = rendering.show_input(photo)
    aligned = reconstruction = distortion = None
    if seen is not None:
        aligned = await call.timed("encode_input", executor, rendering.encode_input, photo, seen, job.output)
    if job.return_reconstruction:
        reconstruction, pixels = await pipeline.reconstruct(job, code, jobs.Noise(), call)
        if seen is not None:
            distortion = await call.timed("distortion", executor, rendering.distortion, pixels, seen)
    return InvertResult(
        code=code,
        face=photo.face,
        aligned=aligned,
        reconstruction=reconstruction,
        distortion=distortion,
        timings=call.timings,
    )
