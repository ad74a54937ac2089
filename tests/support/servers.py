"""A real server on 127.0.0.1 with free ports, in this process or in a child."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import grpc

from stylewire.server.app import App
from stylewire.server.config.settings import Settings
from stylewire.server.engine.models.loader import Loader
from stylewire.testing import launcher
from support.gates import Graphs, HeldLoads

elsewhere: Callable[[Path | None], Mapping[str, str]] | None = None
"""Gives the settings of servers of some models whose graphs run elsewhere; set by ``pytest --triton``."""
LARGE = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


class RunningServer:
    """An ``App`` on an event loop of its own thread.

    Attributes:
        app: touch it from ``call`` only.
        graphs: what runs its graphs, for ``support.gates``.
        loop: the server's event loop.
    """

    def __init__(self, **settings) -> None:
        usual = {"port": 0, "metrics_port": 0, "drain_seconds": 0, "grace_seconds": 5}
        # Not auto: it would measure at every start.
        where = elsewhere(settings.get("models")) if elsewhere and "backend" not in settings else {}
        given = {**usual, "backend": "onnxruntime", **where, **settings}
        self.settings = Settings(**given)
        self.graphs = Graphs(local=self.settings.backend != "triton")
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="server loop")
        self._thread.start()
        try:
            self.app = self.call(self._start())
        except BaseException:
            self.end_loop()
            raise

    async def _start(self) -> App:
        app = App(self.settings, make_loader=partial(Loader, make_runner=self.graphs))
        await app.start()
        return app

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.app.port}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.app.metrics_port}/metrics"

    def call(self, coroutine, timeout=60):
        """Run a coroutine on the server's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self.address, LARGE) as channel:
            yield channel

    def stop(self) -> None:
        self.call(self.app.stop(0))
        self.end_loop()

    def end_loop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class LoadingServer(RunningServer):
    """A server that listens, and whose models load only when ``go_on`` is called."""

    def __init__(self, held=(), **settings) -> None:
        self._loads = HeldLoads(held)
        super().__init__(**settings)

    async def _start(self) -> App:
        app = App(self.settings, make_loader=self._loads)
        self._starting = self.loop.create_task(app.start())
        return app

    def wait_until_loading(self) -> None:
        assert self._loads.begun.wait(30)

    def go_on(self) -> None:
        """Let the models load, and wait until they have."""
        self._loads.go.set()
        self.call(self._started())

    async def _started(self) -> None:
        await self._starting


@contextlib.contextmanager
def loading_server(**settings) -> Iterator[LoadingServer]:
    """Run a server whose models do not load until it is told so."""
    server = LoadingServer(**settings)
    try:
        server.wait_until_loading()
        yield server
    finally:
        server.go_on()
        server.stop()


@contextlib.contextmanager
def running_server(**settings) -> Iterator[RunningServer]:
    server = RunningServer(**settings)
    try:
        yield server
    finally:
        server.stop()


class ServerProcess(launcher.ServerProcess):
    """``stylewire serve`` as a child process, with onnxruntime.

    Args:
        *arguments: further flags.
        models: model directory, or folder of them; the demo models if there is none.
        **options: of the launcher.
    """

    def __init__(self, *arguments: str, models: Path | None = None, **options) -> None:
        given = ["--backend", "onnxruntime", *(["--models", str(models)] if models else []), *arguments]
        super().__init__(*given, **options)
