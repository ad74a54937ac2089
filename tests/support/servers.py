"""A real server on 127.0.0.1 with free ports, in this process or in a child."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import grpc

from stylewire.server.app import App
from stylewire.server.config.settings import Settings

_ANNOUNCEMENT = re.compile(r"stylewire: serving on (\S+), metrics on (\S+)")
elsewhere: Callable[[Path | None], Mapping[str, str]] | None = None
"""Gives the settings of servers of some models whose graphs run elsewhere; set by ``pytest --triton``."""
LARGE = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


class RunningServer:
    """An ``App`` on an event loop of its own thread.

    Attributes:
        app: for tests that look inside; touch it from ``call`` only.
        loop: the server's event loop.
    """

    def __init__(self, **settings) -> None:
        usual = {"port": 0, "metrics_port": 0, "drain_seconds": 0, "grace_seconds": 5}
        # Not auto: it would measure at every start.
        where = elsewhere(settings.get("models")) if elsewhere and "backend" not in settings else {}
        given = {**usual, "backend": "onnxruntime", **where, **settings}
        self.settings = Settings(**given)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="server loop")
        self._thread.start()
        try:
            self.app = self.call(self._start())
        except BaseException:
            self._end_loop()
            raise

    async def _start(self) -> App:
        app = App(self.settings)
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
        self._end_loop()

    def _end_loop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextlib.contextmanager
def running_server(**settings) -> Iterator[RunningServer]:
    server = RunningServer(**settings)
    try:
        yield server
    finally:
        server.stop()


class ServerProcess:
    """``stylewire serve`` as a child process.

    Attributes:
        address: host and port of gRPC.
        metrics_url: where the metrics are.
    """

    def __init__(
        self,
        *arguments: str,
        models: Path | None = None,
        environment: Mapping[str, str] | None = None,
        log: IO[str] | None = None,
        output: int = subprocess.PIPE,
    ) -> None:
        given = ["--port", "0", "--metrics-port", "0", "--drain-seconds", "0", "--backend", "onnxruntime", *arguments]
        if models:
            given += ["--models", str(models)]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("STYLEWIRE_")}
        # A file, not a pipe: the server would wait when the pipe is full.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stylewire", "serve", *given],
            stdout=output,
            stderr=log or self._log,
            text=True,
            env={**inherited, **(environment or {})},
        )
        line = self._announced_in_log() if self.process.stdout is None else self.process.stdout.readline()
        found = _ANNOUNCEMENT.search(line)
        if not found:
            raise RuntimeError(f"the server did not start: {line}{self.wait()[1]}")
        self.address, self.metrics_url = found.groups()

    def _announced_in_log(self) -> str:
        while self.process.poll() is None:
            text = self.log()
            if _ANNOUNCEMENT.search(text):
                return text
            time.sleep(0.05)
        return ""

    def log(self) -> str:
        """What the server has logged until now."""
        return Path(f"/proc/self/fd/{self._log.fileno()}").read_text(encoding="utf-8")

    def stop(self, signal_number: int, timeout: float = 30) -> tuple[int, str]:
        """Send a signal; returns the exit code and what the server logged."""
        self.process.send_signal(signal_number)
        return self.wait(timeout)

    def wait(self, timeout: float = 30) -> tuple[int, str]:
        """Wait for the end; returns the exit code and what the server logged."""
        self.process.communicate(timeout=timeout)
        if self._log.closed:
            return self.process.returncode, ""
        with self._log:
            return self.process.returncode, self.log()

    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        self.process.kill()
        self.wait()
