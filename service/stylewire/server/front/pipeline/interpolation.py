"""Interpolate: a path through keyframes, and its frames in order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from stylewire import latents
from stylewire.keyframes import CubicPath, LinePath, frame_positions, segment
from stylewire.latents import Array
from stylewire.server.context import RequestContext, off_loop
from stylewire.server.front.pipeline import jobs
from stylewire.server.front.pipeline.pipeline import Pipeline, truncated
from stylewire.server.front.pipeline.results import ImagesResult

_CodeAt: TypeAlias = Callable[[float, RequestContext], Awaitable[Array]]
"""Position in units of keyframes -> code float32[L, D]."""
_FrameAt: TypeAlias = Callable[[int, RequestContext], Awaitable[ImagesResult]]


class ZPath:
    """The path of z through keyframes; labels go over linearly.

    Args:
        keyframes: all with a z, of one model.
        method: LERP and CUBIC go through the z themselves, SLERP keeps to the sphere that z are drawn from.
        looped: whether the first keyframe follows the last.
    """

    def __init__(self, keyframes: tuple[jobs.Latent, ...], method: jobs.Method, *, looped: bool) -> None:
        self._keyframes = keyframes
        z = np.stack([keyframe.z for keyframe in keyframes if keyframe.z is not None])  # [K, Z]
        self._z = z
        self._path: CubicPath | LinePath | None = None
        if method is not jobs.Method.SLERP:
            self._path = CubicPath.through(z, looped=looped) if method is jobs.Method.CUBIC else LinePath(z)

    def at(self, position: float) -> jobs.Latent:
        """Make the latent at a position in units of keyframes; without truncation, which is not of z."""
        start, stop, fraction = segment(position, len(self._keyframes))
        z = self._path.at(position) if self._path else latents.slerp(self._z[start], self._z[stop], fraction)
        one, other = self._keyframes[start].label, self._keyframes[stop].label
        label = None if one is None or other is None else latents.lerp(one, other, fraction)
        return jobs.Latent(model=self._keyframes[start].model, z=z, label=label)


async def interpolate(
    pipeline: Pipeline, job: jobs.InterpolateJob, call: RequestContext, look_ahead_frames: int
) -> AsyncGenerator[ImagesResult]:
    """Make the frames in order; the times of each are its own.

    Args:
        pipeline: makes the images.
        job: the path and the number of frames.
        call: for which.
        look_ahead_frames: frames that are made before the reader has taken them.
    """
    frame_at = await _frames(pipeline, job, call)
    pending: deque[asyncio.Future[ImagesResult]] = deque()
    try:
        for index in range(job.frame_count):
            pending.append(asyncio.ensure_future(frame_at(index, call.part())))
            if len(pending) == look_ahead_frames:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:  # the reader has left, or a frame failed: nobody wants the others
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _frames(pipeline: Pipeline, job: jobs.InterpolateJob, call: RequestContext) -> _FrameAt:
    """Lay the path; frames are made when they are needed, since the codes of all may be hundreds of MB."""
    positions = frame_positions(len(job.keyframes), job.frame_count, job.looped, job.easing).tolist()
    if not job.model.styled:
        path = ZPath(job.keyframes, job.method, looped=job.looped)

        async def frame_without_styles(index: int, part: RequestContext) -> ImagesResult:
            return await pipeline.render_latents(job, [path.at(positions[index])], part)

        return frame_without_styles
    code_at = await _code_path(pipeline, job, call)

    async def frame(index: int, part: RequestContext) -> ImagesResult:
        return await pipeline.render(job, [await code_at(positions[index], part)], part)

    return frame


async def _code_path(pipeline: Pipeline, job: jobs.InterpolateJob, call: RequestContext) -> _CodeAt:
    if job.method is jobs.Method.SLERP:
        path_of_z = ZPath(job.keyframes, job.method, looped=job.looped)
        return partial(_code_on_circle, pipeline, job.keyframes, path_of_z)
    codes = np.stack(await pipeline.resolve(job.keyframes, call))  # [K, L, D]
    path: CubicPath | LinePath = LinePath(codes)
    if job.method is jobs.Method.CUBIC:  # a spline through hundreds of large knots
        path = await off_loop(pipeline.executor, CubicPath.through, codes, looped=job.looped)

    async def on_path(position: float, part: RequestContext) -> Array:  # noqa: ARG001 - nothing takes time here
        return path.at(position)

    return on_path


async def _code_on_circle(
    pipeline: Pipeline, keyframes: tuple[jobs.Latent, ...], path: ZPath, position: float, part: RequestContext
) -> Array:
    """Make the code of a z between two keyframes; their truncations go over linearly."""
    (code,) = await pipeline.map([path.at(position)], part)
    start, stop, fraction = segment(position, len(keyframes))
    return latents.lerp(truncated(code, keyframes[start]), truncated(code, keyframes[stop]), fraction)
