"""The RPCs of stylewire.v1: parse, await, build. Errors go through to ``boundary.py``."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any, TypeAlias, TypeVar

import grpc

from stylewire import pb
from stylewire.errors import InvalidFieldError, ModelNotFoundError, UnsupportedError, Violation
from stylewire.server import tracing
from stylewire.server.engine.models.model import Model
from stylewire.server.engine.models.registry import Lease, Registry, order
from stylewire.server.front.api import requests, responses
from stylewire.server.front.api.validation import Limits
from stylewire.server.front.pipeline.jobs import InterpolateJob
from stylewire.server.front.pipeline.pipeline import Pipeline
from stylewire.server.front.pipeline.results import Answer, Run
from stylewire.server.front.pipeline.video import Films
from stylewire.server.front.preprocessing.face_search import Faces

R = TypeVar("R", bound=requests.Request)
J = TypeVar("J")
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


class StyleGanServicer(pb.StyleGanServiceServicer):
    """Pictures from latents, and latents from pictures."""

    def __init__(  # noqa: PLR0913 - what it is made of, by name
        self,
        *,
        registry: Registry,
        pipeline: Pipeline,
        limits: Limits,
        executor: Executor,
        faces: Faces,
        films: Films,
    ) -> None:
        self._registry, self._pipeline, self._faces, self._films = registry, pipeline, faces, films
        self._limits, self._executor = limits, executor

    async def Generate(self, request: pb.GenerateRequest, context: _Context) -> pb.GenerateResponse:  # noqa: N802
        """Make one picture from each latent."""
        run = _run(context)
        with self._registry.lease() as models:
            job = await self._parse(requests.parse_generate, request, models, run)
            answer = await self._pipeline.generate(job, run)
        self._check_size(answer)
        return responses.generate(answer, job.model.digest, return_codes=request.return_codes)

    async def Invert(self, request: pb.InvertRequest, context: _Context) -> pb.InvertResponse:  # noqa: N802
        """Find the code of a picture."""
        run = _run(context)
        with self._registry.lease() as models:
            job = await self._parse(requests.parse_invert, request, models, run)
            answer = await self._pipeline.invert(job, run)
        return responses.invert(answer, job.model.digest, job.photo.face)

    async def MixStyles(self, request: pb.MixStylesRequest, context: _Context) -> pb.MixStylesResponse:  # noqa: N802
        """Replace layers of one latent's code by those of others."""
        run = _run(context)
        with self._registry.lease() as models:
            job = await self._parse(requests.parse_mix, request, models, run)
            answer = await self._pipeline.mix(job, run)
        return responses.mix(answer, job.model.digest, return_code=request.return_code)

    async def Interpolate(  # noqa: N802
        self, request: pb.InterpolateRequest, context: _Context
    ) -> AsyncIterator[pb.InterpolateResponse]:
        """Walk through keyframes."""
        run = _run(context)
        with self._registry.lease() as models:
            job = await self._parse(requests.parse_interpolate, request, models, run)
            async with (
                contextlib.aclosing(self._pipeline.interpolate(job, run)) as answers,
                contextlib.aclosing(self._messages(job, answers, return_code=request.return_codes)) as messages,
            ):
                async for message in messages:
                    yield message

    async def _messages(
        self, job: InterpolateJob, answers: AsyncGenerator[Answer], *, return_code: bool
    ) -> AsyncGenerator[pb.InterpolateResponse]:
        digest, index = job.model.digest, 0
        if job.video is None:
            async for answer in answers:
                yield responses.frame(answer, index, digest, return_code=return_code)
                index += 1
            return
        async with contextlib.aclosing(self._films.pieces(job, job.video, answers)) as pieces:
            async for piece in pieces:
                yield responses.piece(piece, digest)

    async def Project(  # noqa: N802
        self, request: pb.ProjectRequest, context: _Context
    ) -> AsyncIterator[pb.ProjectResponse]:
        """Optimize a code toward a picture."""
        run = _run(context)
        with self._registry.lease() as models:
            job = await self._parse(requests.parse_project, request, models, run)
            async with contextlib.aclosing(self._pipeline.project(job, run)) as answers:
                async for answer in answers:
                    yield responses.project(answer, job)

    def _check_size(self, answer: Answer) -> None:
        """Refuse what gRPC would drop; how large files become is known only now."""
        size, limit = sum(len(picture.content) for picture in answer.pictures), self._limits.max_message_bytes
        if size > limit:
            found = f"the {len(answer.pictures)} pictures have {size} bytes; the limit of a reply is {limit}"
            raise InvalidFieldError.of([Violation("latents", f"{found}: ask for fewer, for JPEG or for smaller ones")])

    async def _parse(self, parse: Callable[[R, Lease, Limits], J], request: R, models: Lease, run: Run) -> J:
        # Refused first, if it will be: work that is done for nothing is what overload is made of.
        with contextlib.suppress(UnsupportedError, ModelNotFoundError):  # parsing finds what else is wrong
            model, graph, row_count = requests.demand(request, models)
            model.runner(graph).check(min(row_count, self._limits.max_latents), run.deadline)
        if not requests.takes_long(request):
            return parse(request, models, self._limits)
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        job = await loop.run_in_executor(self._executor, parse, request, models, self._limits)
        ended = time.monotonic()
        run.encoding_seconds += ended - started
        tracing.phase("parse", started, ended)
        return await self._faces.settle(job, run)


class ModelServicer(pb.ModelServiceServicer):
    """What a server can run."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:  # noqa: N802, ARG002
        """List models by name and version; a page token is what the last model of the page before is called."""
        if request.page_size < 0:
            raise InvalidFieldError.of([Violation("page_size", f"is {request.page_size}; expected 0 to 1000")])
        size, after = min(request.page_size or PAGE_SIZE, MAX_PAGE_SIZE), order(request.page_token)
        models = [model for model in self._registry.table.models if order(model.reference) > after]
        return pb.ListModelsResponse(
            models=[self._describe(model) for model in models[:size]],
            next_page_token=models[size - 1].reference if len(models) > size else "",
        )

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:  # noqa: N802, ARG002
        """Describe one model."""
        return pb.GetModelResponse(model=self._describe(self._registry.get(request.name)))

    def _describe(self, model: Model) -> pb.Model:
        return responses.model(model, default=model is self._registry.default)


def _run(context: _Context) -> Run:
    remaining = context.time_remaining()
    return Run(None if remaining is None else time.monotonic() + remaining)
