"""The RPCs of the Open Inference Protocol, over the same models as those of stylewire.v1."""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from importlib.metadata import version
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from stylewire import oip_pb
from stylewire.errors import ModelNotFoundError
from stylewire.server import context
from stylewire.server.context import RequestContext
from stylewire.server.engine_api.engine import Engine, Lease
from stylewire.server.engine_api.graphs import Arrays
from stylewire.server.engine_api.models import ModelInfo, State
from stylewire.server.front.api.limits import Limits
from stylewire.server.front.oip import inference, requests, responses
from stylewire.server.front.oip.inference import InferJob
from stylewire.server.front.oip.signatures import WHOLE, names
from stylewire.server.telemetry.statistics import Statistics

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_LARGE_BYTES = 1 << 20
"""More takes long enough to copy that a thread should."""
_EXTENSIONS = ("model_configuration", "model_repository", "statistics")


class InferenceServicer:
    """Runs graphs by name.

    Args:
        engine: has the models.
        limits: that bound a request.
        executor: parses large requests, and builds large replies.
        live: whether the process is worth keeping.
        ready: whether the server is ready.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        executor: Executor,
        *,
        live: Callable[[], bool],
        ready: Callable[[], bool],
    ) -> None:
        self._engine, self._limits, self._executor = engine, limits, executor
        self._live, self._ready = live, ready
        self._wholes: WeakKeyDictionary[ModelInfo, Statistics] = WeakKeyDictionary()

    async def ServerLive(self, request: Message, context: _Context) -> oip_pb.ServerLiveResponse:  # noqa: N802, ARG002
        """Return whether the process answers."""
        return oip_pb.ServerLiveResponse(live=self._live())

    async def ServerReady(self, request: Message, context: _Context) -> oip_pb.ServerReadyResponse:  # noqa: N802, ARG002
        """Return whether all models answer."""
        return oip_pb.ServerReadyResponse(ready=self._ready())

    async def ModelReady(self, request: oip_pb.ModelReadyRequest, context: _Context) -> oip_pb.ModelReadyResponse:  # noqa: N802, ARG002
        """Return whether a model answers; one that there is not does not."""
        try:
            model, _ = requests.find(self._engine.catalog, request.name, request.version)
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
        catalog = self._engine.catalog
        model, graph = requests.find(catalog, request.name, request.version)
        versions = [requests.version_of(each.info) for each in catalog.versions(model.info.name)]
        return responses.metadata(model, graph, versions)

    async def ModelConfig(self, request: oip_pb.ModelConfigRequest, context: _Context) -> oip_pb.ModelConfigResponse:  # noqa: N802, ARG002
        """Describe how a model runs."""
        found = requests.find(self._engine.catalog, request.name, request.version)
        return responses.config(*found, self._limits.max_latents)

    async def ModelStatistics(  # noqa: N802
        self,
        request: oip_pb.ModelStatisticsRequest,
        context: _Context,  # noqa: ARG002
    ) -> oip_pb.ModelStatisticsResponse:
        """Return what one model has done, or all."""
        reply, catalog = oip_pb.ModelStatisticsResponse(), self._engine.catalog
        if not request.name:
            found = [(model.info, graph) for model in catalog.models for graph in names(model.info)]
        else:
            asked, graph = requests.find(catalog, request.name, request.version)
            versions = [asked] if request.version else catalog.versions(asked.info.name)
            found = [(model.info, graph) for model in versions if graph in names(model.info)]
        for model, graph in found:
            counts = self._whole(model).counts if graph == WHOLE else self._engine.statistics(model).get(graph)
            if counts:  # not of a model that is still loading
                responses.fill_statistics(reply, model, graph, counts)
        return reply

    async def RepositoryIndex(  # noqa: N802
        self,
        request: oip_pb.RepositoryIndexRequest,
        context: _Context,  # noqa: ARG002
    ) -> oip_pb.RepositoryIndexResponse:
        """List the models."""
        return responses.index(self._engine.catalog.models, () if request.ready else self._engine.states())

    async def ModelInfer(self, request: oip_pb.ModelInferRequest, context_: _Context) -> bytes:  # noqa: N802, ARG002
        """Run a model; returns the message as bytes."""
        began, call = time.monotonic(), context.current()
        call.limit(requests.timeout_seconds(request))
        with self._engine.lease() as models:
            model, graph = requests.lease(models, request.model_name, request.model_version)
            job = await self._parse(request, models, model, graph, call)
            parsed = time.monotonic()
            try:
                outputs = await inference.infer(self._engine, job, call)
            except BaseException:
                if graph == WHOLE:
                    self._whole(model).counts.fail.add(time.monotonic() - began)
                raise
        ended = time.monotonic()
        content = await self._build(request, job, outputs, call)
        if graph == WHOLE:
            self._count(job, call, input_=parsed - began, output=time.monotonic() - ended)
        return content

    async def _parse(
        self, request: oip_pb.ModelInferRequest, models: Lease, model: ModelInfo, graph: str, call: RequestContext
    ) -> InferJob:
        if not requests.takes_long(request):
            return requests.parse_infer(request, models, model, graph, self._limits)
        # Refused first, if it will be: work that is done for nothing is what overload is made of.
        rows = next((each.shape[0] for each in request.inputs if each.shape), 1)
        rows = max(1, min(rows, self._limits.max_latents))
        self._engine.check(model, graph or model.image_graph, rows, call.deadline)
        parse = requests.parse_infer
        return await call.timed("parse", self._executor, parse, request, models, model, graph, self._limits)

    async def _build(
        self, request: oip_pb.ModelInferRequest, job: InferJob, outputs: Arrays, call: RequestContext
    ) -> bytes:
        if sum(array.nbytes for array in outputs.values()) > _LARGE_BYTES:
            return await call.timed("build", self._executor, responses.infer, request, job, outputs)
        return responses.infer(request, job, outputs)

    def _whole(self, model: ModelInfo) -> Statistics:
        """Return the counts of all graphs of a model as one; the graphs count by themselves."""
        if model not in self._wholes:
            self._wholes[model] = Statistics()
        return self._wholes[model]

    def _count(self, job: InferJob, call: RequestContext, *, input_: float, output: float) -> None:
        """Count a request for a whole model."""
        statistics, timings = self._whole(job.model), call.timings
        statistics.batch(job.row_count, timings.inference_seconds)
        statistics.count(
            job.row_count,
            queue=timings.queue_seconds,
            run=timings.inference_seconds,
            input_=input_,
            output=output,
        )


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


def _serialize(reply: Message | bytes) -> bytes:
    return reply if isinstance(reply, bytes) else reply.SerializeToString()
