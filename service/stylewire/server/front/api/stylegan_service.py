"""The RPCs of StyleGanService: parse, await, build. Errors go through to the interceptor."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from typing import TypeVar

from stylewire import pb
from stylewire.errors import InvalidFieldError, ModelNotFoundError, UnsupportedError, Violation
from stylewire.server import context
from stylewire.server.context import RequestContext
from stylewire.server.engine_api.engine import Engine, Lease
from stylewire.server.front.api import requests, responses
from stylewire.server.front.api.limits import Limits
from stylewire.server.front.pipeline import interpolation, inversion, projection
from stylewire.server.front.pipeline.jobs import InterpolateJob
from stylewire.server.front.pipeline.pipeline import Pipeline
from stylewire.server.front.pipeline.results import ImagesResult, ProjectResult
from stylewire.server.front.pipeline.video import VideoStreams

R = TypeVar("R", bound=requests.Request)
J = TypeVar("J")


class StyleGanServicer(pb.StyleGanServiceServicer):
    """Images from latents, and latents from photos.

    Args:
        engine: has the models.
        pipeline: the steps from a job to its result.
        limits: that bound a request.
        executor: parses large requests.
        videos: makes video files.
        look_ahead_frames: frames of an interpolation that are made before the reader has taken them.
    """

    def __init__(  # noqa: PLR0913 - what it is made of, by name
        self,
        *,
        engine: Engine,
        pipeline: Pipeline,
        limits: Limits,
        executor: Executor,
        videos: VideoStreams,
        look_ahead_frames: int,
    ) -> None:
        self._engine, self._pipeline, self._videos = engine, pipeline, videos
        self._limits, self._executor, self._look_ahead_frames = limits, executor, look_ahead_frames

    async def Generate(self, request: pb.GenerateRequest, _: object) -> pb.GenerateResponse:  # noqa: N802
        """Make one image from each latent."""
        call = context.current()
        with self._engine.lease() as models:
            job = await self._parse(requests.parse_generate, request, models, call)
            result = await self._pipeline.generate(job, call)
        self._check_size(result)
        return responses.generate(result, job.model.digest, return_codes=request.return_codes)

    async def Invert(self, request: pb.InvertRequest, _: object) -> pb.InvertResponse:  # noqa: N802
        """Find the code of a photo."""
        call = context.current()
        with self._engine.lease() as models:
            job = await self._parse(requests.parse_invert, request, models, call)
            result = await inversion.invert(self._pipeline, job, call)
        return responses.invert(result, job.model.digest)

    async def MixStyles(self, request: pb.MixStylesRequest, _: object) -> pb.MixStylesResponse:  # noqa: N802
        """Replace layers of one latent's code by those of others."""
        call = context.current()
        with self._engine.lease() as models:
            job = await self._parse(requests.parse_mix, request, models, call)
            result = await self._pipeline.mix(job, call)
        return responses.mix(result, job.model.digest, return_code=request.return_code)

    async def Interpolate(  # noqa: N802
        self, request: pb.InterpolateRequest, _: object
    ) -> AsyncIterator[pb.InterpolateResponse]:
        """Go along a path through keyframes."""
        call = context.current()
        with self._engine.lease() as models:
            job = await self._parse(requests.parse_interpolate, request, models, call)
            frames = interpolation.interpolate(self._pipeline, job, call, self._look_ahead_frames)
            async with (
                contextlib.aclosing(frames),
                contextlib.aclosing(self._messages(job, frames, call, return_code=request.return_codes)) as messages,
            ):
                async for message in messages:
                    yield message

    async def _messages(
        self, job: InterpolateJob, frames: AsyncGenerator[ImagesResult], call: RequestContext, *, return_code: bool
    ) -> AsyncGenerator[pb.InterpolateResponse]:
        digest, index = job.model.digest, 0
        if job.video is None:
            async for frame in frames:
                call.reply(frame.timings)
                yield responses.frame(frame, index, digest, return_code=return_code)
                index += 1
            return
        async with contextlib.aclosing(self._videos.pieces(job, job.video, frames, call)) as pieces:
            async for piece in pieces:
                call.reply(piece.timings)
                yield responses.piece(piece, digest)

    async def Project(self, request: pb.ProjectRequest, _: object) -> AsyncIterator[pb.ProjectResponse]:  # noqa: N802
        """Optimize a code toward a photo."""
        call = context.current()
        with self._engine.lease() as models:
            job = await self._parse(requests.parse_project, request, models, call)
            async with contextlib.aclosing(projection.project(self._pipeline, job, call)) as events:
                async for event in events:
                    if isinstance(event, ProjectResult):
                        call.reply(event.timings)
                    yield responses.project(event, job)

    def _check_size(self, result: ImagesResult) -> None:
        """Refuse what gRPC would drop; how large files become is known only now."""
        size, limit = sum(len(image.content) for image in result.images), self._limits.max_message_bytes
        if size > limit:
            found = f"the {len(result.images)} pictures have {size} bytes; the limit of a reply is {limit}"
            raise InvalidFieldError.of([Violation("latents", f"{found}: ask for fewer, for JPEG or for smaller ones")])

    async def _parse(
        self, parse: Callable[[R, Lease, Limits], J], request: R, models: Lease, call: RequestContext
    ) -> J:
        # Refused first, if it will be: work that is done for nothing is what overload is made of.
        with contextlib.suppress(UnsupportedError, ModelNotFoundError):  # parsing finds what else is wrong
            model, graph, row_count = requests.demand(request, models)
            self._engine.check(model, graph, min(row_count, self._limits.max_latents), call.deadline)
        if not requests.takes_long(request):
            return parse(request, models, self._limits)
        return await call.timed("parse", self._executor, parse, request, models, self._limits)
