"""The server's life: build, start, serve, drain, stop."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from stylewire import pb
from stylewire.demo import MODELS
from stylewire.errors import BackendUnavailableError, StylewireError
from stylewire.manifest import ManifestError
from stylewire.server import logs
from stylewire.server.boundary import Boundary
from stylewire.server.health import HealthServicer
from stylewire.server.metrics import Method, Metrics
from stylewire.server.pipeline import Pipeline
from stylewire.server.registry import Registry
from stylewire.server.servicers import ModelServicer, StyleGanServicer
from stylewire.server.settings import SettingError, Settings, metrics_port_taken, port_taken
from stylewire.server.workers import Ports, Workers

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 2.0
"""Time that graphs have to end when every call has ended: what they compute then is for nobody."""
_WATCH_SECONDS = 1.0
"""How often progress is looked at."""
_ALIVE = health.OVERALL_HEALTH
_READY = pb.STYLEGAN_SERVICE
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
_SERVICE_FILES = (pb.STYLEGAN_SERVICE_FILE, pb.MODEL_SERVICE_FILE, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)


class App:
    """A server: gRPC, health, reflection, metrics, and the models behind them.

    Args:
        settings: what it is told.
        shared: whether other processes serve on the same port; the metrics of one are then for its parent only.

    Attributes:
        port: the port of gRPC, once started.
        metrics_port: the port of /metrics, once started.
    """

    def __init__(self, settings: Settings, *, shared: bool = False) -> None:
        self.settings, self._shared = settings, shared
        self.metrics = Metrics()
        self.registry = Registry.open(settings.models or MODELS, settings, self.metrics)
        self._executor = ThreadPoolExecutor(settings.threads, thread_name_prefix="pictures")
        self._health = HealthServicer()
        self._server = self._build()
        self._watch: asyncio.Task[None] | None = None
        self._stop_metrics: Callable[[], None] = lambda: None
        self.port = self.metrics_port = 0

    async def start(self) -> None:
        """Listen, then load the models; ready afterwards.

        Raises:
            SettingError: a port is taken.
            ManifestError: a model directory is damaged.
            BackendUnavailableError: the backend or device cannot be used here.
        """
        self.metrics.watch_tasks(asyncio.get_running_loop())
        await self._health.set(_ALIVE, health_pb2.HealthCheckResponse.SERVING)
        await self._health.set(_READY, health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            self.port, self.metrics_port = self._listen()
            await self._server.start()
            await self.registry.load()
        except BaseException:
            await self._close(0)
            raise
        await self._health.set(_READY, health_pb2.HealthCheckResponse.SERVING)
        self._watch = asyncio.create_task(self._watch_progress())

    async def stop(self, drain_seconds: float) -> None:
        """Say NOT_SERVING, serve on while load balancers notice, let calls finish, free everything.

        Raises:
            BackendUnavailableError: a graph hangs; everything else has ended.
        """
        if self._watch:
            self._watch.cancel()
        await self._health.enter_graceful_shutdown()
        log.info("draining for %g s", drain_seconds)
        await asyncio.sleep(drain_seconds)
        until = time.monotonic() + self.settings.grace_seconds
        if drain_seconds:
            await self._boundary.stop(self.settings.grace_seconds)
        await self._close(max(0.0, until - time.monotonic()))
        log.info("stopped")

    async def _close(self, grace_seconds: float) -> None:
        await self._health.close()  # its streams would last as long as the grace
        await self._server.stop(grace_seconds)
        try:
            await asyncio.wait_for(self.registry.close(), _CLOSE_SECONDS)
        except TimeoutError as err:
            raise BackendUnavailableError("stopped although a graph still runs") from err
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(self._stop_metrics)

    async def _watch_progress(self) -> None:
        """Say NOT_SERVING for as long as a batch hangs, so that the process is restarted (liveness) or passed over."""
        status, period = health_pb2.HealthCheckResponse, min(_WATCH_SECONDS, self.settings.hang_seconds / 2)
        known: list[str] = []
        while True:
            await asyncio.sleep(period)
            hung = self.registry.hung_graphs(self.settings.hang_seconds)
            if hung != known:
                log.error("graphs that hang: %s", ", ".join(hung) or "none any more")
                known = hung
                for name in (_ALIVE, _READY):
                    await self._health.set(name, status.NOT_SERVING if hung else status.SERVING)

    def _build(self) -> grpc.aio.Server:
        size = self.settings.max_message_bytes
        options = [
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
            ("grpc.so_reuseport", int(self._shared)),  # a second server on the port must fail, not share it
            # The SDK pings every minute while a call waits; the default answers three such pings with GOAWAY.
            ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
            # A connection that never becomes one holds a file descriptor so long; gRPC's own limits are 120 and 60 s.
            ("grpc.server_handshake_timeout_ms", 5_000),
            ("grpc.http2.settings_timeout", 5_000),
        ]
        self._boundary = Boundary(self.metrics)
        server = grpc.aio.server(interceptors=[self._boundary], options=options)
        pipeline = Pipeline(self._executor, self.settings.look_ahead_frames)
        pb.add_StyleGanServiceServicer_to_server(
            StyleGanServicer(self.registry, pipeline, self.settings, self._executor), server
        )
        pb.add_ModelServiceServicer_to_server(ModelServicer(self.registry), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _add_reflection(server)
        for method in _methods():
            self.metrics.method(method)
        self.metrics.watch_backlogs(self.registry.models.values())
        return server

    def _listen(self) -> tuple[int, int]:
        address = f"{self.settings.host}:{self.settings.port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as err:
            raise port_taken(address) from err
        try:
            host = "127.0.0.1" if self._shared else self.settings.host
            metrics_port, self._stop_metrics = self.metrics.serve(host, self.settings.metrics_port)
        except OSError as err:
            raise metrics_port_taken(self.settings.metrics_port, err) from err
        return port, metrics_port


async def serve(settings: Settings, ready: Callable[[Ports], None], *, shared: bool = False) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal ends the process at once.

    Args:
        settings: what it is told.
        ready: called with the ports when all models answer.
        shared: whether other processes serve on the same port.
    """
    stopping = asyncio.get_running_loop().create_future()

    def on_signal(number: signal.Signals) -> None:
        if stopping.done():
            os._exit(128 + number)
        stopping.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    app = App(settings, shared=shared)
    await app.start()
    gc.collect()
    gc.freeze()  # what is there now stays: looking through it again and again for garbage would hold up calls
    ready((app.port, app.metrics_port))
    number = await stopping
    # Nobody balances load to a terminal: Ctrl-C does not wait.
    await app.stop(settings.drain_seconds if number == signal.SIGTERM else 0.0)


def run(settings: Settings, ready: Callable[[Ports], None], *, shared: bool = False) -> int:
    """Run a server in this process; returns the exit code."""
    logs.configure(settings.log_level)
    try:
        asyncio.run(serve(settings, ready, shared=shared))
    except (SettingError, ManifestError, StylewireError) as err:
        return _complain(err)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run ``stylewire serve``; returns the exit code."""
    try:
        settings = Settings.load(sys.argv[1:] if arguments is None else arguments)
        logs.configure(settings.log_level)
        log.info("settings: %s", settings)
        ready = partial(_announce, settings.host)
        if settings.workers > 1:
            return Workers(settings, partial(run, shared=True)).run(ready)
    except SettingError as err:
        return _complain(err)
    return run(settings, ready)


def _announce(host: str, ports: Ports) -> None:
    """Print the line that whatever starts a server waits for."""
    port, metrics_port = ports
    text = f"stylewire: serving on {host}:{port}, metrics on http://{host}:{metrics_port}/metrics"
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as err:  # nobody reads it, or its disk is full
        log.warning("%s (which could not be printed: %s)", text, err.strerror)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else what is left of the line spoils the exit code


def _complain(err: Exception) -> int:
    print(f"stylewire serve: {err}", file=sys.stderr)  # noqa: T201 - a person reads it
    return 1


def _methods() -> list[Method]:
    kinds = {(False, False): "unary", (False, True): "server_stream", (True, True): "bidi_stream"}
    described = [
        Method(kinds[method.client_streaming, method.server_streaming], service.full_name, method.name)
        for file in _SERVICE_FILES
        for service in file.services_by_name.values()
        for method in service.methods
    ]
    return [*described, Method("bidi_stream", _REFLECTION_V1, "ServerReflectionInfo")]


def _add_reflection(server: grpc.aio.Server) -> None:
    """Serve reflection as v1alpha and v1: the two differ in nothing but the package's name."""
    names = [pb.STYLEGAN_SERVICE, pb.MODEL_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME]
    servicer = reflection.aio.ReflectionServicer(names)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
    for name in (reflection.SERVICE_NAME, _REFLECTION_V1):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


if __name__ == "__main__":
    sys.exit(main())
