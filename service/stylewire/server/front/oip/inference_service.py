"""The RPCs of the Open Inference Protocol, over the same models as those of stylewire.v1."""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from importlib.metadata import version
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from stylewire import oip_pb
from stylewire.errors import ModelNotFoundError
from stylewire.server import tracing
from stylewire.server.engine.backends import Arrays
from stylewire.server.engine.batching.batch import Dispatch
from stylewire.server.engine.models.model import Model, State
from stylewire.server.engine.models.registry import Registry
from stylewire.server.front.api.validation import Limits
from stylewire.server.front.oip import inference, requests, responses
from stylewire.server.front.oip.inference import InferJob
from stylewire.server.front.oip.signatures import WHOLE, names
from stylewire.server.front.pipeline.results import Run
from stylewire.server.front.transport.call import TimedReply

T = TypeVar("T")
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_LARGE_BYTES = 1 << 20
"""More takes long enough to copy that a thread should."""
_EXTENSIONS = ("model_configuration", "model_repository", "statistics")


class InferenceServicer:
    """Runs graphs by name.

    Args:
        registry: of the models.
        limits: that bound a request.
        executor: reads large requests.
        states: gives name, version and state of everything that is loaded, or could not be.
        live: whether the process is worth keeping.
        ready: whether the server is ready.
    """

    def __init__(  # noqa: PLR0913 - what it is made of, by name
        self,
        registry: Registry,
        limits: Limits,
        executor: Executor,
        *,
        states: Callable[[], Iterable[tuple[str, str, str]]],
        live: Callable[[], bool],
        ready: Callable[[], bool],
    ) -> None:
        self._registry, self._limits, self._executor = registry, limits, executor
        self._states, self._live, self._ready = states, live, ready

    async def ServerLive(self, request: Message, context: _Context) -> oip_pb.ServerLiveResponse:  # noqa: N802, ARG002
        """Say whether the process answers."""
        return oip_pb.ServerLiveResponse(live=self._live())

    async def ServerReady(self, request: Message, context: _Context) -> oip_pb.ServerReadyResponse:  # noqa: N802, ARG002
        """Say whether all models answer."""
        return oip_pb.ServerReadyResponse(ready=self._ready())

    async def ModelReady(self, request: oip_pb.ModelReadyRequest, context: _Context) -> oip_pb.ModelReadyResponse:  # noqa: N802, ARG002
        """Say whether a model answers; one that there is not does not."""
        try:
            model, _ = self._find(request.name, request.version)
        except ModelNotFoundError:
            return oip_pb.ModelReadyResponse(ready=False)
        return oip_pb.ModelReadyResponse(ready=model.state is State.READY)

    async def ServerMetadata(self, request: Message, context: _Context) -> oip_pb.ServerMetadataResponse:  # noqa: N802, ARG002
        """Describe the server."""
        return oip_pb.ServerMetadataResponse(name="stylewire", version=version("stylewire"), extensions=_EXTENSIONS)

    async def ModelMetadata(  # noqa: N802
        self,
        request: oip_pb.ModelMetadataRequest,
        context: _Context,  # noqa: ARG002
    ) -> oip_pb.ModelMetadataResponse:
        """Describe what goes into a model, and what comes out."""
        model, graph = self._find(request.name, request.version)
        versions = [requests.version_of(each) for each in self._versions(model.name)]
        return responses.metadata(model, graph, versions)

    async def ModelConfig(self, request: oip_pb.ModelConfigRequest, context: _Context) -> oip_pb.ModelConfigResponse:  # noqa: N802, ARG002
        """Describe how a model runs."""
        return responses.config(*self._find(request.name, request.version), self._limits.max_latents)

    async def ModelStatistics(  # noqa: N802
        self,
        request: oip_pb.ModelStatisticsRequest,
        context: _Context,  # noqa: ARG002
    ) -> oip_pb.ModelStatisticsResponse:
        """Tell what one model has done, or all."""
        reply = oip_pb.ModelStatisticsResponse()
        if not request.name:
            found = [(model, graph) for model in self._registry.table.models for graph in names(model)]
        else:
            asked, graph = self._find(request.name, request.version)
            versions = [asked] if request.version else self._versions(asked.name)
            found = [(model, graph) for model in versions if graph in names(model)]
        for model, graph in found:
            responses.fill_statistics(reply, model, graph)
        return reply

    async def RepositoryIndex(  # noqa: N802
        self,
        request: oip_pb.RepositoryIndexRequest,
        context: _Context,  # noqa: ARG002
    ) -> oip_pb.RepositoryIndexResponse:
        """List the models."""
        return responses.index(self._registry.table.models, () if request.ready else self._states())

    async def ModelInfer(self, request: oip_pb.ModelInferRequest, context: _Context) -> TimedReply:  # noqa: N802
        """Run a model."""
        began, run = time.monotonic(), _run(request, context)
        with self._registry.lease() as models:
            model, graph = requests.find(models, request.model_name, request.model_version)
            job = await self._parse(request, model, graph, run)
            read = time.monotonic()
            try:
                outputs = await inference.infer(job, run)
            except BaseException:
                if graph == WHOLE:
                    model.statistics[WHOLE].fail.add(time.monotonic() - began)
                raise
        ended = time.monotonic()
        content = await self._build(request, job, outputs, run)
        if graph == WHOLE:
            _count(job, run, input_=read - began, output=time.monotonic() - ended)
        return TimedReply(content, run)

    async def _parse(self, request: oip_pb.ModelInferRequest, model: Model, graph: str, run: Run) -> InferJob:
        if not requests.takes_long(request):
            return requests.parse_infer(request, model, graph, self._limits)
        # Refused first, if it will be: work that is done for nothing is what overload is made of.
        rows = next((each.shape[0] for each in request.inputs if each.shape), 1)
        model.runner(graph or model.picture_graph).check(max(1, min(rows, self._limits.max_latents)), run.deadline)
        parse = partial(requests.parse_infer, request, model, graph, self._limits)
        return await self._off_loop("parse", parse, run)

    async def _build(self, request: oip_pb.ModelInferRequest, job: InferJob, outputs: Arrays, run: Run) -> bytes:
        build = partial(responses.infer, request, job, outputs)
        large = sum(array.nbytes for array in outputs.values()) > _LARGE_BYTES
        return await self._off_loop("build", build, run) if large else build()

    async def _off_loop(self, phase: str, work: Callable[[], T], run: Run) -> T:
        started = time.monotonic()
        done = await asyncio.get_running_loop().run_in_executor(self._executor, work)
        ended = time.monotonic()
        run.encoding_seconds += ended - started
        tracing.phase(phase, started, ended)
        return done

    def _find(self, name: str, version: str) -> tuple[Model, str]:
        return requests.find(self._registry.table, name, version)

    def _versions(self, name: str) -> list[Model]:
        return [model for model in self._registry.table.models if model.name == name]


def add_to_server(servicer: InferenceServicer, server: grpc.aio.Server) -> None:
    """Serve the protocol, under its own name of the service."""
    handlers = {}
    for method in oip_pb.FILE.services_by_name["GRPCInferenceService"].methods:
        handlers[method.name] = grpc.unary_unary_rpc_method_handler(
            getattr(servicer, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=_serialize,
        )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(oip_pb.SERVICE, handlers),))


def _serialize(reply: Message | TimedReply) -> bytes:
    return reply.content if isinstance(reply, TimedReply) else reply.SerializeToString()


def _run(request: oip_pb.ModelInferRequest, context: _Context) -> Run:
    limits = [left for left in (context.time_remaining(), requests.timeout_seconds(request)) if left is not None]
    return Run(time.monotonic() + min(limits) if limits else None)


def _count(job: InferJob, run: Run, *, input_: float, output: float) -> None:
    """Count a request for a whole model; the graphs count by themselves."""
    statistics = job.model.statistics[WHOLE]
    statistics.batch(job.row_count, run.inference_seconds, Dispatch.IDLE)
    statistics.request(job.row_count, queue=run.queue_seconds, run=run.inference_seconds, input_=input_, output=output)
