"""Graphs of a running server that wait, sleep or fail when a test says so."""

import asyncio
import contextlib
import copy
import threading
from collections.abc import Iterator

TIMEOUT_SECONDS = 30


class Gate:
    """Stands before a graph: batches wait in their thread until ``open`` is called.

    Attributes:
        sizes: rows of the batches that arrived, in order.
    """

    def __init__(self, batcher) -> None:
        self.sizes: list[int] = []
        self._batcher, self._run, self._observer = batcher, batcher._run, batcher._observer
        self._opened = threading.Event()
        self._changed = threading.Condition()
        self._rows = 0

    def open(self) -> None:
        self._opened.set()

    def wait_for(self, *, batches: int = 0, waiting_rows: int = 0) -> None:
        """Wait until so many batches arrived at the gate and so many rows wait behind them."""
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: len(self.sizes) >= batches and self._rows >= waiting_rows, TIMEOUT_SECONDS
            )
        assert arrived, f"batches of {self.sizes}, {self._rows} rows waiting"

    def run(self, inputs, outputs):
        with self._changed:
            self.sizes.append(len(next(iter(inputs.values()))))
            self._changed.notify_all()
        assert self._opened.wait(TIMEOUT_SECONDS), "nobody opened the gate"
        return self._run(inputs, outputs)

    def depth(self, rows: int) -> None:
        self._observer.depth(rows)
        with self._changed:
            self._rows = rows
            self._changed.notify_all()

    def __getattr__(self, name):  # the rest of an observer
        return getattr(self._observer, name)


@contextlib.contextmanager
def held(server, graph: str, model: str = "") -> Iterator[Gate]:
    """Hold a graph of a running server; it is open again afterwards."""
    with _restored(server, graph, model) as batcher:
        gate = Gate(batcher)
        batcher._run, batcher._observer = gate.run, gate
        try:
            yield gate
        finally:
            gate.open()


@contextlib.contextmanager
def replaced(server, graph: str, make_run, model: str = "") -> Iterator[None]:
    """Run ``make_run(run)`` in place of a graph's ``run``."""
    with _restored(server, graph, model) as batcher:
        batcher._run = make_run(batcher._run)
        yield


@contextlib.contextmanager
def _restored(server, graph, model) -> Iterator:
    """Lend a batcher; afterwards it is as it was, and has not learned what waiting costs."""
    batcher = server.app.registry.get(model).batcher(graph)
    before = batcher._run, batcher._observer, batcher.costs
    batcher.costs = copy.copy(batcher.costs)
    try:
        yield batcher
    finally:
        server.call(_idle(batcher))
        batcher._run, batcher._observer, batcher.costs = before


async def _idle(batcher) -> None:
    while batcher._entries or batcher._running_until:  # noqa: ASYNC110 - it has no event for this, and needs none
        await asyncio.sleep(0)
