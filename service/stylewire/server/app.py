"""The composition root: what a server is made of, how it starts, and how it stops."""

import asyncio
import importlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stylewire import pb
from stylewire.demo import MODELS
from stylewire.server.config.settings import SettingError, Settings, metrics_port_taken
from stylewire.server.engine.local_engine import LocalEngine
from stylewire.server.engine.models.loader import Loader, MakeLoader
from stylewire.server.front.api.admin_service import AdminServicer
from stylewire.server.front.api.model_service import ModelServicer
from stylewire.server.front.api.stylegan_service import StyleGanServicer
from stylewire.server.front.auth.access import Access
from stylewire.server.front.oip import inference_service
from stylewire.server.front.pipeline.pipeline import Pipeline
from stylewire.server.front.pipeline.video import VideoStreams
from stylewire.server.front.preprocessing.face_search import Aligner
from stylewire.server.front.transport import admin_listener, listener
from stylewire.server.front.transport.health import HealthServicer
from stylewire.server.front.transport.interceptor import Interceptor
from stylewire.server.front.transport.wire_limits import max_fields
from stylewire.server.telemetry.collectors import ServerCollector, watch_process
from stylewire.server.telemetry.gpu import watch_gpu
from stylewire.server.telemetry.metrics import Metrics
from stylewire.server.tracing import Tracer
from stylewire.server.watchdog import ALIVE, READY, Watchdog

log = logging.getLogger(__name__)

_STATUS = health_pb2.HealthCheckResponse


class App:
    """A server: gRPC, health, reflection, metrics, and the engine behind them.

    Args:
        settings: of the server.
        shared: whether other processes serve on the same port; the metrics of one are then for its parent only.
        make_loader: makes what loads models; tests hold loads and graphs by it.

    Attributes:
        settings: as above.
        metrics: all of them.
        engine: has the models.
        aligner: finds faces.
        health: answers probes.
        interceptor: wraps every method of the callers' port.
        tracer: traces calls; None if no collector is named.
        port: the port of gRPC, once started.
        metrics_port: the port of /metrics, once started.
        admin_address: where administrators reach it, once started; empty for nowhere.
    """

    def __init__(self, settings: Settings, *, shared: bool = False, make_loader: MakeLoader = Loader) -> None:
        self.settings, self._shared = settings, shared
        self.metrics = Metrics()
        access = Access.of(settings)
        self.engine = LocalEngine(settings, settings.models or MODELS, self.metrics, make_loader)
        self._executor = ThreadPoolExecutor(settings.threads, thread_name_prefix="pictures")
        self.aligner = Aligner(settings, self.metrics)
        self.health = HealthServicer()
        self._watchdog = Watchdog(self.engine, self.health, access, self.metrics, settings.hang_seconds)
        self.tracer = open_tracer(settings)
        self.interceptor = Interceptor(self.metrics, access, self.tracer, max_fields=max_fields(settings.max_latents))
        self._server = self._build()
        self._admin = self._build_admin()
        self._watching: asyncio.Task[None] | None = None
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
        await self.health.set(ALIVE, _STATUS.SERVING)
        await self.health.set(READY, _STATUS.NOT_SERVING)
        try:
            self.port, self.metrics_port = self._listen()
            if self._admin:
                self.admin_address = admin_listener.listen(self._admin, self.settings.admin_address)
            await self._server.start()
            await self.engine.start()
            if self._admin:
                await self._admin.start()
        except BaseException:
            await self._close(0)
            raise
        await self.health.set(READY, _STATUS.SERVING)
        self._watching = asyncio.create_task(self._watchdog.run())

    def interrupt(self) -> None:
        """End a start that waits for servers elsewhere; on the event loop. What is loaded here is loaded."""
        self.engine.interrupt()

    async def stop(self, drain_seconds: float) -> None:
        """Report NOT_SERVING, serve on while load balancers notice, let calls finish, free everything.

        Raises:
            BackendUnavailableError: a graph hangs; everything else has ended.
        """
        if self._watching:
            self._watching.cancel()
        self.engine.stop_watching()
        await self.health.enter_graceful_shutdown()
        log.info("draining for %g s", drain_seconds)
        await asyncio.sleep(drain_seconds)
        until = time.monotonic() + self.settings.grace_seconds
        if drain_seconds:
            await self.interceptor.drain.drain(self.settings.grace_seconds)
        await self._close(max(0.0, until - time.monotonic()))
        log.info("stopped")

    async def _close(self, grace_seconds: float) -> None:
        if self._admin:
            await self._admin.stop(0)
        await self.health.close()  # its streams would last as long as the grace
        await self._server.stop(grace_seconds)
        try:
            await self.engine.close()
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(self.aligner.close)
            await asyncio.to_thread(self._stop_metrics)
            if self.tracer:
                await asyncio.to_thread(self.tracer.close)

    def _build(self) -> grpc.aio.Server:
        settings, provenance = self.settings, self.settings.provenance
        server = listener.make_server(settings, self.interceptor, shared=self._shared)
        stylegan = StyleGanServicer(
            engine=self.engine,
            pipeline=Pipeline(self.engine, self._executor, self.aligner, provenance=provenance),
            limits=settings,
            executor=self._executor,
            videos=VideoStreams(self._executor, settings.max_videos, provenance=provenance),
            look_ahead_frames=settings.look_ahead_frames,
        )
        pb.add_StyleGanServiceServicer_to_server(stylegan, server)
        pb.add_ModelServiceServicer_to_server(ModelServicer(self.engine), server)
        ready = partial(self.health.serving, READY)
        inference = inference_service.InferenceServicer(
            self.engine, settings, self._executor, live=lambda: self._watchdog.alive, ready=ready
        )
        inference_service.add_to_server(inference, server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        if settings.reflection:
            listener.add_reflection(server)
        for method in listener.methods():
            self.metrics.method(method)
        self._watch_itself()
        return server

    def _build_admin(self) -> grpc.aio.Server | None:
        if not self.settings.admin_address:
            return None
        interceptor = Interceptor(self.metrics, Access.of_administrators())
        server = listener.make_server(self.settings, interceptor, shared=False)
        pb.add_AdminServiceServicer_to_server(AdminServicer(self.engine), server)
        for method in listener.admin_methods():
            self.metrics.method(method)
        return server

    def _watch_itself(self) -> None:
        """Show what is no event: the state of the server, its process and its device, as they are at a scrape."""
        metrics, ready = self.metrics.registry, partial(self.health.serving, READY)
        max_queue_seconds = self.settings.max_queue_seconds
        metrics.register(
            ServerCollector(ready=ready, graphs=self._watchdog.graph_health, max_queue_seconds=max_queue_seconds)
        )
        watch_process(metrics)
        watch_gpu(metrics, self.settings.device)

    def _listen(self) -> tuple[int, int]:
        port = listener.listen(self._server, self.settings)
        try:
            host = "127.0.0.1" if self._shared else self.settings.host
            metrics_port, self._stop_metrics = self.metrics.serve(host, self.settings.metrics_port)
        except OSError as err:
            raise metrics_port_taken(self.settings.metrics_port, err) from err
        return port, metrics_port


def open_tracer(settings: Settings) -> Tracer | None:
    """Start to trace, if a collector is named.

    Raises:
        SettingError: the packages are not installed, or the headers are malformed.
    """
    if not settings.otlp_endpoint:
        return None
    try:
        module = importlib.import_module("stylewire.server.telemetry.otlp")  # needs an extra
    except ImportError as err:
        found = f"--otlp-endpoint needs a package that is not installed ({err.name})"
        raise SettingError(f"{found}: pip install 'stylewire[tracing]'") from err
    headers = module.parse_headers(settings.otlp_headers.get_secret_value())
    return cast("Tracer", module.OtlpTracer(settings.otlp_endpoint, headers, settings.trace_sample_ratio))
