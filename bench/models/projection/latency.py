"""What Generate takes during a projection and without, in turns on the same server."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from stylewire import Client, StylewireError
from stylewire.client.projections import ProjectionProgress
from tables import Table

TABLE = Table("projection:<12", "p50 ms:>16", "ratio:>5", "p99 ms:>16", "ratio:>5", "steps/s meanwhile:>")
_SECONDS = 3.0
"""Of a turn."""


class _OverError(Exception):
    """The turn has ended."""


class Projecting:
    """A projection in a thread of its own, over and over, until it is stopped."""

    def __init__(self, address: str, picture: bytes) -> None:
        self._address, self._picture = address, picture
        self._begun, self._over = threading.Event(), threading.Event()
        self.steps = 0
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Project while the block runs; the block begins when the steps do."""
        self._thread.start()
        self._begun.wait()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def _run(self) -> None:
        with Client(self._address, timeout=600) as client:
            while not self._over.is_set():
                try:
                    client.project(self._picture, steps=1000, on_progress=self._tell)
                except (StylewireError, _OverError):
                    return

    def _tell(self, progress: ProjectionProgress) -> None:
        self.steps += progress.step > 0
        self._begun.set()
        if self._over.is_set():
            raise _OverError


def print_latency(address: str, picture: bytes, rounds: int, label: str) -> dict[str, list[float]]:
    """Print a row: quantiles of Generate without and with, the ratio, and the steps made meanwhile."""
    without, during, steps = [], [], []
    with Client(address) as client:
        client.project(picture, steps=1, timeout=600)
        _turn(client)
        for _ in range(rounds):
            without.append(_turn(client))
            projecting = Projecting(address, picture)
            with projecting.under_way():
                before, started = projecting.steps, time.monotonic()
                during.append(_turn(client))
                steps.append((projecting.steps - before) / (time.monotonic() - started))
    plain, busy = (np.array([np.quantile(turn, (0.5, 0.99)) * 1e3 for turn in turns]) for turns in (without, during))
    ratio = np.median(busy / plain, 0)
    (p50, p99), (p50_busy, p99_busy) = np.median(plain, 0), np.median(busy, 0)
    halves = (f"{p50:.1f} -> {p50_busy:.1f}", f"{ratio[0]:.2f}")
    tails = (f"{p99:.1f} -> {p99_busy:.1f}", f"{ratio[1]:.2f}")
    TABLE.print_row(label, *halves, *tails, f"{np.median(steps):.1f}")
    return {"p50_ms": [p50, p50_busy], "p99_ms": [p99, p99_busy], "ratio": list(ratio), "steps": [np.median(steps)]}


def _turn(client: Client) -> list[float]:
    """Call one picture after the other; return seconds a call."""
    taken, until, number = [], time.monotonic() + _SECONDS, 0
    while time.monotonic() < until:
        started = time.monotonic()
        client.generate(number, format="pixels")
        taken.append(time.monotonic() - started)
        number += 1
    return taken
