"""Servers that run at the same time and take turns: shared machines drift, so only neighbors in time are compared."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import simplejpeg

from serving import h2load
from serving.peers.generator import Generator
from serving.peers.peer import ROOT, Peer, PeerError, Server
from serving.peers.settings import Settings, free_port

SEED = 7
CLIENTS = 16
IDLE_SECONDS = 2.0
BUSY = 0.03
"""A server that takes more than this of a core while nobody asks is stopped (SIGSTOP) between its turns."""


@dataclass(slots=True)
class Turns:
    """What one server showed, a value a round.

    Attributes:
        peer: which.
        speeds: images/s, 16 clients.
        latencies_seconds: of all requests of one client.
        speed_ratios: images/s of stylewire right before or after, divided by this one's.
        latency_ratios: median latency of stylewire right before or after, divided by this one's.
        idle: share of a core it takes while nobody asks.
        failed: requests with no picture.
        error: why it is not, or no longer, measured.
    """

    peer: Peer
    speeds: list[float] = field(default_factory=list)
    latencies_seconds: list[float] = field(default_factory=list)
    speed_ratios: list[float] = field(default_factory=list)
    latency_ratios: list[float] = field(default_factory=list)
    idle: float = 0.0
    failed: int = 0
    error: str = ""


class Rounds:
    """Servers of one model.

    Args:
        model: a model directory.
        resolution_px: of the model; chooses the settings.
        seconds: length of a turn with 16 clients; half of it with one.
    """

    def __init__(self, model: Path, resolution_px: int, seconds: float) -> None:
        self._model, self._resolution_px, self._seconds = model, resolution_px, seconds
        self._expected = Generator(str(model), threads=2).generate([SEED])[0]
        self._servers: dict[str, Server] = {}
        self._reply_bytes: dict[str, int] = {}
        self._busy: set[str] = set()

    def start(self, turns: Turns) -> None:
        """Start a server, check its picture and see what it takes when idle."""
        peer = turns.peer
        logs = ROOT / "build" / "peers" / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        settings = Settings(model=str(self._model), port=free_port(), **peer.tuned[self._resolution_px])
        try:
            server = self._servers[peer.name] = Server(peer, settings, logs / f"{peer.name}-{self._resolution_px}.log")
            reply = server.wait_ready(SEED)
            _check(peer.find_jpeg(reply), self._expected)
        except PeerError as err:
            turns.error = str(err)
            return
        self._reply_bytes[peer.name] = len(reply)
        before = server.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        turns.idle = (server.cpu_seconds() - before) / IDLE_SECONDS
        if turns.idle > BUSY:
            self._busy.add(peer.name)
            server.signal(signal.SIGSTOP)

    def play(self, pair: Sequence[Turns]) -> None:
        """Let the reference and another take a turn with 16 clients, then one with one client."""
        reference, turns = pair
        order = pair if len(turns.speeds) % 2 == 0 else pair[::-1]
        try:
            busy = {id(each): self._load(each, CLIENTS) for each in order}
            alone = {id(each): self._load(each, 1) for each in order}
        except (PeerError, h2load.LoadError) as err:
            turns.error = f"in the turns of {reference.peer.name} and {turns.peer.name}: {err}"
            return
        speed, latency = busy[id(turns)].requests_per_second, alone[id(turns)].percentile(50)
        turns.speeds.append(speed)
        turns.latencies_seconds.extend(alone[id(turns)].latencies_seconds)
        turns.speed_ratios.append(busy[id(reference)].requests_per_second / speed)
        turns.latency_ratios.append(alone[id(reference)].percentile(50) / latency)
        turns.failed += busy[id(turns)].failed + alone[id(turns)].failed

    def stop(self) -> None:
        """Stop all servers."""
        for server in self._servers.values():
            server.stop()

    def _load(self, turns: Turns, clients: int) -> h2load.Result:
        peer, server = turns.peer, self._servers[turns.peer.name]
        if peer.name in self._busy:
            server.signal(signal.SIGCONT)
            server.wait_ready(SEED)
        seconds = self._seconds if clients > 1 else self._seconds / 2
        result = h2load.run(
            server.port,
            protocol=peer.protocol,
            path=peer.path,
            headers=peer.headers,
            body=peer.body(SEED),
            clients=clients,
            seconds=seconds,
            warm_up_seconds=seconds / 2,
        )
        server.settle(turns.idle)
        if peer.name in self._busy:
            server.signal(signal.SIGSTOP)
        if result.bytes_per_request < 0.98 * self._reply_bytes[peer.name]:
            raise PeerError(f"{result.bytes_per_request:.0f} bytes a reply, not {self._reply_bytes[peer.name]}")
        return result


def compare(peers: Sequence[Peer], rounds: Rounds, round_count: int) -> list[Turns]:
    """Start all and measure them in turns; the first is the reference, and its own row is the noise (A/A)."""
    everyone = [Turns(peer) for peer in peers]
    try:
        for turns in everyone:
            rounds.start(turns)
        for _ in range(round_count):
            for turns in everyone:
                if not turns.error:
                    # A copy, so that the reference can also play against itself.
                    rounds.play([replace(everyone[0]), turns])
    finally:
        rounds.stop()
    return everyone


def _check(file: bytes, expected: bytes) -> None:
    """Refuse a picture that is not the one that the bare graphs make."""
    found, wanted = (simplejpeg.decode_jpeg(each).astype(np.int16) for each in (file, expected))
    if found.shape != wanted.shape:
        raise PeerError(f"a picture of {found.shape}, not {wanted.shape}")
    difference = np.abs(found - wanted)
    if difference.max() > 2 or difference.mean() > 0.5:
        raise PeerError(f"another picture: off by {difference.mean():.2f}, at most {difference.max()}")
