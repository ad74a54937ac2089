"""A peer as the runner sees it: how to start, call and stop it. What it runs is in the folder of its name."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from serving.h2load import Protocol
from serving.peers.settings import Settings
from stylewire.testing.launcher import with_default_signals

ROOT = Path(__file__).parents[3]
READY_SECONDS = 120
SETTLE_SECONDS = 15


class PeerError(Exception):
    """A peer cannot be measured; the message says why."""


def find_jpeg(reply: bytes) -> bytes:
    """Cut the JPEG file out of a reply: from its first marker to its last, whatever envelope is around it."""
    start, end = reply.find(b"\xff\xd8\xff"), reply.rfind(b"\xff\xd9")
    if start < 0 or end < 0:
        raise PeerError(f"no JPEG file in {reply[:200]!r}")
    return reply[start : end + 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One server: ``NAME/serve.py`` says how it is built.

    Attributes:
        name: of its folder and of its environment.
        version: what is compared.
        protocol: h1 or gRPC.
        path: of the call.
        body: makes the request for a seed.
        tuned: the ``Settings`` kept, by the model's resolution in px; what was tried is in ``README.md``.
        headers: of the request.
        find_jpeg: takes the file out of a reply.
    """

    name: str
    version: str
    protocol: Protocol
    path: str
    body: Callable[[int], bytes]
    tuned: Mapping[int, Mapping[str, float]]
    headers: Mapping[str, str] = field(default_factory=dict)
    find_jpeg: Callable[[bytes], bytes] = find_jpeg

    @property
    def command(self) -> Sequence[str]:
        """What starts it: ``serve.py`` in its own environment; stylewire shares that of the runner."""
        own = ROOT / "build" / "peers" / self.name / "bin" / "python"
        python = sys.executable if self.name == "stylewire" else str(own)
        return [python, str(Path(__file__).parent / self.name / "serve.py")]

    def call(self, port: int, seed: int) -> bytes:
        """Send one request and return the whole reply."""
        if self.protocol == "grpc":
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                return channel.unary_unary(self.path)(self.body(seed), timeout=30)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", self.path, self.body(seed), dict(self.headers))
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        if reply.status != http.client.OK:
            raise PeerError(f"{reply.status}: {content[:200]!r}")
        return content


class Server:
    """A running peer, in a session of its own.

    Args:
        peer: what to start.
        settings: how.
        log: file of all it prints.
    """

    def __init__(self, peer: Peer, settings: Settings, log: Path) -> None:
        self.peer, self.port = peer, settings.port
        if not Path(peer.command[0]).exists():
            raise PeerError(f"not installed: bench/serving/peers/setup.sh {peer.name}")
        ours = {"PYTHONPATH": str(ROOT / "bench"), **settings.to_environment()}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                with_default_signals(peer.command),
                cwd=log.parent,  # some write files where they start
                stdout=output,
                stderr=output,
                env={**os.environ, **ours},
                start_new_session=True,
            )
        self._log = log

    def wait_ready(self, seed: int) -> bytes:
        """Ask until a picture comes; returns the reply.

        Raises:
            PeerError: the server ended, or took too long.
        """
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                reply = self.peer.call(self.port, seed)
                self.peer.find_jpeg(reply)
            except (OSError, grpc.RpcError, PeerError, http.client.HTTPException) as err:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise PeerError(f"not ready: {err!r:.200}; see {self._log}") from err
                time.sleep(0.5)
            else:
                return reply

    def cpu_seconds(self) -> float:
        """Sum up the processor time of all its processes that still run."""
        ticks = 0
        for process in self._family():
            stat = _stat(process)
            ticks += int(stat[11]) + int(stat[12]) if stat else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def settle(self, idle: float) -> None:
        """Wait until it takes no more than its idle share of a core, and a little.

        The requests in flight at the end of a run are cut off, and many servers work on them all the same.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(0.25)
            if (self.cpu_seconds() - before) / 0.25 < idle + 0.2:
                return

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        for process in self._family():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue

    def stop(self) -> None:
        """End it: SIGTERM to the first process, then SIGKILL to what is left of its session and children."""
        self.signal(signal.SIGCONT)
        family = self._family()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in {*family, *self._family()} - {self._process.pid}:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _family(self) -> set[int]:
        """Find its processes: those of its session, and all their descendants, which may have sessions of their own."""
        stats = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        found = {pid for pid, stat in stats.items() if stat and int(stat[3]) == self._process.pid}
        while True:
            more = {pid for pid, stat in stats.items() if stat and int(stat[1]) in found} - found
            if not more:
                return found
            found |= more


def _stat(process: int) -> list[str]:
    """Read /proc/PID/stat from the state on; empty for a process that is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
