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

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from stylewire import pb
from stylewire.demo import MODELS
from stylewire.errors import BackendUnavailableError, StylewireError
from stylewire.manifest import ManifestError
from stylewire.server import tracing
from stylewire.server.config.settings import SettingError, Settings, metrics_port_taken
from stylewire.server.engine.backends import TRITON, Remote, RemoteOptions, open_remote
from stylewire.server.engine.models.lifecycle import Lifecycle
from stylewire.server.engine.models.operations import Operations
from stylewire.server.engine.models.repository import Folder
from stylewire.server.engine.models.watcher import Watcher
from stylewire.server.engine.projection.projector import Projector
from stylewire.server.front.api import admin_service
from stylewire.server.front.api.stylegan_service import ModelServicer, StyleGanServicer
from stylewire.server.front.auth.access import Access
from stylewire.server.front.oip import inference_service
from stylewire.server.front.pipeline.pipeline import Pipeline
from stylewire.server.front.pipeline.video import Films
from stylewire.server.front.preprocessing.face_search import Faces
from stylewire.server.front.transport import listener
from stylewire.server.front.transport.health import HealthServicer
from stylewire.server.front.transport.interceptor import Boundary
from stylewire.server.supervisor import Ports, Workers
from stylewire.server.telemetry import logs
from stylewire.server.telemetry.collectors import GraphHealth, Vitals, watch_process
from stylewire.server.telemetry.gpu import watch_device
from stylewire.server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 2.0
"""Time that graphs have to end when every call has ended: what they compute then is for nobody."""
_WATCH_SECONDS = 1.0
"""How often progress is looked at."""
_PATIENCE = 0.8
"""Part of the time after which a batch counts as hung: a server elsewhere that hangs is no hang of this one."""
_ALIVE = health.OVERALL_HEALTH
_READY = pb.STYLEGAN_SERVICE


class App:
    """A server: gRPC, health, reflection, metrics, and the models behind them.

    Args:
        settings: what it is told.
        shared: whether other processes serve on the same port; the metrics of one are then for its parent only.

    Attributes:
        port: the port of gRPC, once started.
        metrics_port: the port of /metrics, once started.
        admin_address: where administrators reach it, once started; empty for nowhere.
    """

    def __init__(self, settings: Settings, *, shared: bool = False) -> None:
        self.settings, self._shared = settings, shared
        self.metrics = Metrics()
        self._access = Access.of(settings)
        self._remote = _open_remote(settings)
        self.lifecycle = Lifecycle(Folder(settings.models or MODELS), settings, self.metrics, remote=self._remote)
        self.registry = self.lifecycle.registry
        self._executor = ThreadPoolExecutor(settings.threads, thread_name_prefix="pictures")
        self._faces = Faces(settings, self.metrics)
        self._projector = Projector(settings, self.metrics.projections)
        self._health = HealthServicer()
        self._hung: list[str] = []
        self._tracer = tracing.open_tracer(settings)
        self._server = self._build()
        self._admin = self._build_admin()
        self._watches: list[asyncio.Task[None]] = []
        self._stop_metrics: Callable[[], None] = lambda: None
        self.port = self.metrics_port = 0
        self.admin_address = ""

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
            if self._admin:
                self.admin_address = admin_service.listen(self._admin, self.settings.admin_address)
            await self._server.start()
            if self._remote:
                self._remote.start()
            await self.lifecycle.start()
            if self._admin:
                await self._admin.start()
        except BaseException:
            await self._close(0)
            raise
        await self._health.set(_READY, health_pb2.HealthCheckResponse.SERVING)
        self._watches.append(asyncio.create_task(self._watch_progress()))
        if self.settings.watch_seconds:
            watcher = Watcher(self.lifecycle, self.settings.watch_seconds)
            self._watches.append(asyncio.create_task(watcher.run()))

    def interrupt(self) -> None:
        """End a start that waits for servers elsewhere; on the event loop. What is loaded here is loaded."""
        if self._remote:
            self._remote.interrupt()

    async def stop(self, drain_seconds: float) -> None:
        """Say NOT_SERVING, serve on while load balancers notice, let calls finish, free everything.

        Raises:
            BackendUnavailableError: a graph hangs; everything else has ended.
        """
        for watch in self._watches:
            watch.cancel()
        await self._health.enter_graceful_shutdown()
        log.info("draining for %g s", drain_seconds)
        await asyncio.sleep(drain_seconds)
        until = time.monotonic() + self.settings.grace_seconds
        if drain_seconds:
            await self._boundary.stop(self.settings.grace_seconds)
        await self._close(max(0.0, until - time.monotonic()))
        log.info("stopped")

    async def _close(self, grace_seconds: float) -> None:
        if self._admin:
            await self._admin.stop(0)
        await self._health.close()  # its streams would last as long as the grace
        await self._server.stop(grace_seconds)
        await self._projector.close()
        try:
            await asyncio.wait_for(self.lifecycle.close(), _CLOSE_SECONDS)
        except TimeoutError as err:
            raise BackendUnavailableError("stopped although a graph still runs") from err
        finally:
            if self._remote:
                await self._remote.close()
            self._executor.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(self._faces.close)
            await asyncio.to_thread(self._stop_metrics)
            if self._tracer:
                await asyncio.to_thread(self._tracer.close)

    async def _watch_progress(self) -> None:
        """Look for what changes by itself: tokens, and batches that hang.

        While one hangs health is NOT_SERVING, so that the process is restarted (liveness) or passed over.
        """
        status, period = health_pb2.HealthCheckResponse, min(_WATCH_SECONDS, self.settings.hang_seconds / 2)
        clock, was_ready = asyncio.get_running_loop().time, True
        while True:
            due = clock() + period
            await asyncio.sleep(period)
            self._access.refresh()
            self.metrics.loop_lag.observe(max(0.0, clock() - due))
            hung = self.registry.hung_graphs(self.settings.hang_seconds)
            ready = self.registry.ready and (self._remote is None or self._remote.ready)
            if hung != self._hung:
                log.error("graphs that hang: %s", ", ".join(hung) or "none any more")
            if (hung, ready) != (self._hung, was_ready):
                self._hung, was_ready = hung, ready
                await self._health.set(_ALIVE, status.NOT_SERVING if hung else status.SERVING)
                await self._health.set(_READY, status.SERVING if ready and not hung else status.NOT_SERVING)

    def _build(self) -> grpc.aio.Server:
        self._boundary = Boundary(self.metrics, self._access, self._tracer)
        server = listener.make_server(self.settings, self._boundary, shared=self._shared)
        pipeline = Pipeline(
            self._executor, self._projector, self.settings.look_ahead_frames, provenance=self.settings.provenance
        )
        films = Films(self._executor, self.settings.max_videos, provenance=self.settings.provenance)
        pb.add_StyleGanServiceServicer_to_server(
            StyleGanServicer(
                registry=self.registry,
                pipeline=pipeline,
                limits=self.settings,
                executor=self._executor,
                faces=self._faces,
                films=films,
            ),
            server,
        )
        pb.add_ModelServiceServicer_to_server(ModelServicer(self.registry), server)
        inference = inference_service.InferenceServicer(
            self.registry,
            self.settings,
            self._executor,
            states=self.lifecycle.states,
            live=lambda: not self._hung,
            ready=partial(self._health.serving, _READY),
        )
        inference_service.add_to_server(inference, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self.settings.reflection:
            listener.add_reflection(server)
        for method in listener.methods():
            self.metrics.method(method)
        self._watch_itself()
        return server

    def _build_admin(self) -> grpc.aio.Server | None:
        if not self.settings.admin_address:
            return None
        server = listener.make_server(self.settings, Boundary(self.metrics, Access.of_administrators()), shared=False)
        servicer = admin_service.AdminServicer(Operations(self.lifecycle), self.registry)
        pb.add_AdminServiceServicer_to_server(servicer, server)
        for method in listener.admin_methods():
            self.metrics.method(method)
        return server

    def _watch_itself(self) -> None:
        """Show what is no event: the state of the server, its process and its device, as they are at a scrape."""
        metrics = self.metrics.registry
        max_queue_seconds = self.settings.max_queue_seconds
        ready = partial(self._health.serving, _READY)
        metrics.register(Vitals(ready=ready, graphs=self._graph_health, max_queue_seconds=max_queue_seconds))
        watch_process(metrics)
        watch_device(metrics, self.settings.device)

    def _graph_health(self) -> list[GraphHealth]:
        """Say which graphs hang; versions of a model count as one. Asked from the thread of a scrape."""
        health: dict[tuple[str, str], bool] = {}
        for model in self.registry.table.models:
            for graph in model.graphs:
                hung = f"{model.reference}.{graph}" in self._hung
                health[model.name, graph] = health.get((model.name, graph), False) or hung
        return [GraphHealth(name, graph, hung) for (name, graph), hung in health.items()]

    def _listen(self) -> tuple[int, int]:
        port = listener.listen(self._server, self.settings)
        try:
            host = "127.0.0.1" if self._shared else self.settings.host
            metrics_port, self._stop_metrics = self.metrics.serve(host, self.settings.metrics_port)
        except OSError as err:
            raise metrics_port_taken(self.settings.metrics_port, err) from err
        return port, metrics_port


def _open_remote(settings: Settings) -> Remote | None:
    if settings.backend != TRITON:
        return None
    return open_remote(
        RemoteOptions(
            addresses=tuple(settings.triton_url.split(",")),
            tls_ca=settings.triton_tls_ca,
            shared_memory=settings.triton_shared_memory == "auto",
            patience_seconds=_PATIENCE * settings.hang_seconds,
        )
    )


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
            logging.shutdown()
            os._exit(128 + number)
        stopping.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    app = App(settings, shared=shared)
    stopping.add_done_callback(lambda _: app.interrupt())
    await app.start()
    gc.collect()
    gc.freeze()  # what is there now stays: looking through it again and again for garbage would hold up calls
    ready((app.port, app.metrics_port))
    number = await stopping
    # Nobody balances load to a terminal: Ctrl-C does not wait.
    await app.stop(settings.drain_seconds if number == signal.SIGTERM else 0.0)


def run(settings: Settings, ready: Callable[[Ports], None], *, shared: bool = False) -> int:
    """Run a server in this process; returns the exit code."""
    logs.configure(settings.log_level, settings.log_format)
    try:
        asyncio.run(serve(settings, ready, shared=shared))
    except (SettingError, ManifestError, StylewireError) as err:
        return _complain(err)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run ``stylewire serve``; returns the exit code."""
    try:
        settings = Settings.load(sys.argv[1:] if arguments is None else arguments)
        logs.configure(settings.log_level, settings.log_format)
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


if __name__ == "__main__":
    sys.exit(main())
