"""The server from the bytes of a request to those of the answer, in this thread: all of it but sockets and networks."""

import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any, NamedTuple, ParamSpec, TypeVar

import grpc
import numpy as np

from stylewire import pb
from stylewire.demo import MODELS
from stylewire.server.config.settings import Settings
from stylewire.server.engine.models.lifecycle import Lifecycle
from stylewire.server.engine.models.repository import Folder
from stylewire.server.engine.projection.tasks import Progress
from stylewire.server.front.api.stylegan_service import ModelServicer, StyleGanServicer
from stylewire.server.front.auth.access import Access
from stylewire.server.front.pipeline import jobs
from stylewire.server.front.pipeline.results import Answer, InvertAnswer, Picture, ProjectionStep, Run
from stylewire.server.front.pipeline.video import Films
from stylewire.server.front.transport.interceptor import Boundary
from stylewire.server.telemetry.metrics import Metrics
from support.fuzz.inputs import Input

P = ParamSpec("P")
T = TypeVar("T")
SLOW_SECONDS = 1.0
_TRAILER_BYTES = 8192
"""What clients accept."""
_BUGS = ("INTERNAL", "UNKNOWN")
_BLACK = Picture(width_px=1, height_px=1, content=b"\0", mime_type="image/png")
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
    """A server without sockets, whose networks answer black pictures. Make it by ``opened``, in a running loop."""

    def __init__(self, handlers: dict[str, Any], lifecycle: Lifecycle) -> None:
        self._handlers, self._lifecycle = handlers, lifecycle

    @classmethod
    async def opened(cls) -> "Target":
        """Load the demo models and wrap the methods as the server does."""
        settings, metrics = Settings(backend="onnxruntime", threads=1), Metrics()
        lifecycle = Lifecycle(Folder(MODELS), settings, metrics)
        await lifecycle.start()
        registry = lifecycle.registry
        films = Films(_InPlace(), settings.max_videos, provenance=True)
        # Nothing runs, so nothing is ever late.
        servicer = StyleGanServicer(
            registry=registry,
            pipeline=_Networks(),  # type: ignore[arg-type]
            limits=settings,
            executor=_InPlace(),
            faces=_Faces(),  # type: ignore[arg-type]
            films=films,
        )
        found = _Registrar()
        pb.add_StyleGanServiceServicer_to_server(servicer, found)  # type: ignore[no-untyped-call]
        pb.add_ModelServiceServicer_to_server(ModelServicer(registry), found)  # type: ignore[no-untyped-call]
        boundary, wrapped = Boundary(metrics, Access.of(settings)), {}
        for path, handler in found.handlers.items():

            async def find(_: object, handler: Any = handler) -> Any:
                return handler

            name = path.rpartition("/")[2]
            wrapped[name] = await boundary.intercept_service(find, SimpleNamespace(method=path, invocation_metadata=()))
        return cls(wrapped, lifecycle)

    async def close(self) -> None:
        """Free the models."""
        await self._lifecycle.close()

    async def run(self, given: Input) -> Outcome:
        """Send an input through."""
        context, handler = _Context(), self._handlers[given.method]
        started = time.process_time()
        try:
            if handler.response_streaming:
                await handler.unary_stream(given.content, context)
            else:
                context.read(handler.response_serializer(await handler.unary_unary(given.content, context)))
        except grpc.aio.AbortError:
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


class _Faces:
    """Finds none: what looks for faces is a process of its own, and the networks take any picture."""

    async def settle(self, job: T, run: Run) -> T:
        return job


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
    """Runs what it is given at once, in the thread that gives it."""

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as err:  # noqa: BLE001 - goes to the caller
            future.set_exception(err)
        return future


class _Networks:
    """Answers jobs without running them; what only numbers can do wrong is for the share that goes over the wire."""

    async def generate(self, job: jobs.GenerateJob, run: Run) -> Answer:
        return _answer(job.model.manifest, len(job.latents), run)

    async def mix(self, job: jobs.MixJob, run: Run) -> Answer:
        return _answer(job.model.manifest, 1, run)

    async def invert(self, job: jobs.InvertJob, run: Run) -> InvertAnswer:
        return InvertAnswer(_code(job.model.manifest), _BLACK, None, None, run)

    async def interpolate(self, job: jobs.InterpolateJob, run: Run) -> AsyncIterator[Answer]:
        for _ in range(min(job.frame_count, 3)):
            yield _frame(job, run) if job.video else _answer(job.model.manifest, 1, run)

    async def project(self, job: jobs.ProjectJob, run: Run) -> AsyncIterator[ProjectionStep]:
        yield ProjectionStep(progress=_PROGRESS, picture=_BLACK)


def _answer(manifest: Any, count: int, run: Run) -> Answer:
    return Answer([_BLACK] * count, [_code(manifest)] * count, run)


def _frame(job: jobs.InterpolateJob, run: Run) -> Answer:
    """Answer with black pixels, as many as the video expects."""
    side_px = job.output.resolution_px or job.model.manifest.resolution_px
    array = np.zeros((side_px, side_px, job.model.manifest.image_channels), np.uint8)
    return Answer([Picture(width_px=side_px, height_px=side_px, array=array)], [], run)


def _code(manifest: Any) -> Any:
    return np.zeros((manifest.layer_count, manifest.w_dim), np.float32)
