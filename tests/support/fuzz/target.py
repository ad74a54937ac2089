"""The server from the bytes of a request to those of the answer, in this thread: all of it but sockets and networks."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any, NamedTuple, ParamSpec, TypeVar

import grpc
import numpy as np

from stylewire import pb
from stylewire.demo import MODELS
from stylewire.server.config.settings import Settings
from stylewire.server.engine.local_engine import LocalEngine
from stylewire.server.engine_api.engine import GraphRequest
from stylewire.server.engine_api.graphs import BatchResult, graph_kind
from stylewire.server.engine_api.models import ModelInfo
from stylewire.server.engine_api.projection import Progress, ProjectionRequest
from stylewire.server.front.api.model_service import ModelServicer
from stylewire.server.front.api.stylegan_service import StyleGanServicer
from stylewire.server.front.auth.access import Access
from stylewire.server.front.pipeline.pipeline import Pipeline
from stylewire.server.front.pipeline.video import VideoStreams
from stylewire.server.front.preprocessing.photos import AlignedPhoto, Photo, UnalignedPhoto
from stylewire.server.front.transport.interceptor import Interceptor
from stylewire.server.telemetry.metrics import Metrics
from support.fuzz.inputs import Input

P = ParamSpec("P")
T = TypeVar("T")
SLOW_SECONDS = 1.0
_TRAILER_BYTES = 8192
"""What clients accept."""
_RUNS = 3
"""Runs of a call that makes frame after frame: more of them show no more."""
_BUGS = ("INTERNAL", "UNKNOWN")
_PROGRESS = Progress(step=0, loss=0, pixel=0, gradient=0, spread=0, correlation=0, distortion=0)


class Outcome(NamedTuple):
    """What became of an input.

    Attributes:
        code: status of the call.
        seconds: of this thread's processor time.
        finding: what is wrong; empty if nothing.
    """

    code: str
    seconds: float
    finding: str


class Target:
    """A server without sockets, whose networks return black images. Make it by ``opened``, in a running loop."""

    def __init__(self, handlers: dict[str, Any], engine: "_BlackEngine") -> None:
        self._handlers, self._engine = handlers, engine

    @classmethod
    async def opened(cls) -> "Target":
        """Load the demo models and wrap the methods as the server does."""
        settings, metrics = Settings(backend="onnxruntime", threads=1), Metrics()
        engine = _BlackEngine(settings, MODELS, metrics)
        await engine.start()
        executor = _InPlace()
        servicer = StyleGanServicer(
            engine=engine,
            pipeline=Pipeline(engine, executor, _Aligner(), provenance=True),  # type: ignore[arg-type]
            limits=settings,
            executor=executor,
            videos=VideoStreams(executor, settings.max_videos, provenance=True),
            look_ahead_frames=settings.look_ahead_frames,
        )
        found = _Registrar()
        pb.add_StyleGanServiceServicer_to_server(servicer, found)  # type: ignore[no-untyped-call]
        pb.add_ModelServiceServicer_to_server(ModelServicer(engine), found)  # type: ignore[no-untyped-call]
        interceptor, wrapped = Interceptor(metrics, Access.of(settings)), {}
        for path, handler in found.handlers.items():

            async def find(_: object, handler: Any = handler) -> Any:
                return handler

            name, details = path.rpartition("/")[2], SimpleNamespace(method=path, invocation_metadata=())
            wrapped[name] = await interceptor.intercept_service(find, details)
        return cls(wrapped, engine)

    async def close(self) -> None:
        """Free the models."""
        await self._engine.close()

    async def run(self, given: Input) -> Outcome:
        """Send an input through."""
        context, handler = _Context(), self._handlers[given.method]
        self._engine.runs_left = _RUNS
        started = time.process_time()
        try:
            if handler.response_streaming:
                await handler.unary_stream(given.content, context)
            else:
                context.read(handler.response_serializer(await handler.unary_unary(given.content, context)))
        except (grpc.aio.AbortError, asyncio.CancelledError):
            pass
        except Exception as err:  # noqa: BLE001 - that is what is looked for
            return Outcome("escaped", time.process_time() - started, f"{type(err).__name__}: {err}")
        seconds = time.process_time() - started
        return Outcome(context.status, seconds, _judge(context, seconds))


def _judge(context: "_Context", seconds: float) -> str:
    if context.status in _BUGS:
        return f"{context.status}: {context.message}"
    if context.trailer_bytes > _TRAILER_BYTES:
        return f"{context.trailer_bytes} bytes of trailers"
    return f"took {seconds:.2f} s" if seconds > SLOW_SECONDS else ""


class _Aligner:
    """Takes the middle of every photo for a face: what looks for faces is a process of its own."""

    async def align(self, photos: list[Photo], _: object) -> list[AlignedPhoto]:
        return [_found(each) if isinstance(each, UnalignedPhoto) else each for each in photos]


def _found(photo: UnalignedPhoto) -> AlignedPhoto:
    encoder = photo.encoder
    shape = encoder.input_channels, encoder.input_height_px, encoder.input_width_px
    return AlignedPhoto(model=photo.model, graph=photo.graph, kind=photo.kind, input=np.zeros(shape, np.float32))


class _Registrar:
    """Stands where grpc's server would, and keeps the handlers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Take nothing: the same come by name."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Keep the handlers of a service."""
        self.handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


class _Context:
    """What a handler may do to a call."""

    def __init__(self) -> None:
        self.status, self.message, self.trailer_bytes, self.read_bytes = "OK", "", 0, 0

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def set_trailing_metadata(self, metadata: object) -> None:
        pass

    def time_remaining(self) -> float | None:
        return None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def code(self) -> int:
        return 0

    def read(self, content: bytes) -> None:
        self.read_bytes += len(content)

    async def write(self, message: Any) -> None:
        self.read(message.SerializeToString())

    async def abort(self, code: grpc.StatusCode, details: str, trailers: tuple[tuple[str, str | bytes], ...]) -> None:
        self.status, self.message = code.name, details
        self.trailer_bytes = sum(len(key) + len(value) for key, value in trailers) + len(details.encode())
        raise grpc.aio.AbortError


class _InPlace(Executor):
    """Runs what it is given at once, in the thread that submits it."""

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as err:  # noqa: BLE001 - goes to the caller
            future.set_exception(err)
        return future


class _BlackEngine(LocalEngine):
    """Has the models, and returns zeros without running them; what only numbers can do wrong goes over the wire.

    Attributes:
        runs_left: runs of image graphs until the caller leaves.
    """

    runs_left = _RUNS

    def check(self, model: ModelInfo, graph: str, row_count: int, deadline: float | None) -> None:
        """Refuse nothing: nothing runs, so nothing is ever late."""

    async def run(self, request: GraphRequest) -> BatchResult:
        count, kind, manifest = (
            len(next(iter(request.inputs.values()))),
            graph_kind(request.graph),
            request.model.manifest,
        )
        side_px, channels = manifest.resolution_px, manifest.image_channels
        shapes = {
            "w": (manifest.w_dim,),
            "w_plus": (manifest.layer_count, manifest.w_dim),
            "pixels": (side_px, side_px, channels),
            "image": (channels, side_px, side_px),
        }
        if kind in ("synthesis", "generator"):
            self.runs_left -= 1
            if self.runs_left < 0:
                raise asyncio.CancelledError
        types = {"pixels": np.uint8}
        outputs = {name: np.zeros((count, *shapes[name]), types.get(name, np.float32)) for name in request.outputs}
        converted = request.convert(outputs, 0) if request.convert else []
        return BatchResult({} if request.convert else outputs, converted, 0.0, 0.0, 0.0, count)

    def check_projection(self, model: ModelInfo, step_count: int, deadline: float | None) -> None:
        """Refuse nothing."""

    async def project(self, request: ProjectionRequest) -> AsyncGenerator[Progress]:  # type: ignore[override]
        yield _PROGRESS
