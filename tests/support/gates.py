"""Graphs of a running server that wait, sleep or fail when a test says so."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from stylewire.server.engine.batching.cost_model import CostModel

TIMEOUT_SECONDS = 30


class Gate:
    """Stands before a graph, which has one slot meanwhile: batches wait in their thread until ``open`` is called.

    Attributes:
        sizes: rows of the batches that arrived, in order.
    """

    def __init__(self, batcher) -> None:
        self.sizes: list[int] = []
        self._batcher, self._run = batcher, batcher._run
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def wait_for(self, *, batches: int = 0, waiting_rows: int = 0) -> None:
        """Wait until so many batches arrived at the gate and so many rows wait behind them."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while len(self.sizes) < batches or self._batcher.waiting_rows() < waiting_rows:
            assert time.monotonic() < deadline, f"batches of {self.sizes}, {self._batcher.waiting_rows()} rows waiting"
            time.sleep(0.001)

    def make_expensive(self, seconds: float) -> None:
        """Make the server believe that a row takes so long, and that it has just seen one."""
        scheduler = self._batcher.scheduler
        with self._batcher.lock:
            scheduler.costs = CostModel()
            scheduler.costs.learn(1, seconds)
            scheduler._last_run = time.monotonic()

    def run(self, inputs, outputs, *, wide):
        self.sizes.append(len(next(iter(inputs.values()))))
        assert self._opened.wait(TIMEOUT_SECONDS), "nobody opened the gate"
        return self._run(inputs, outputs, wide=wide)


@contextlib.contextmanager
def held(server, graph: str, model: str = "") -> Iterator[Gate]:
    """Hold a graph of a running server; it is open again afterwards."""
    with one_slot(server, graph, model) as batcher:
        gate = Gate(batcher)
        batcher._run = gate.run
        try:
            yield gate
        finally:
            gate.open()


@contextlib.contextmanager
def one_slot(server, graph: str, model: str = "") -> Iterator:
    """Let batches of a graph run one after the other, however many cores there are."""
    with _restored(server, graph, model) as batcher:
        batcher.scheduler._limits = replace(batcher.scheduler._limits, slots=1, wide=False)
        yield batcher


@contextlib.contextmanager
def replaced(server, graph: str, make_run, model: str = "") -> Iterator[None]:
    """Run ``make_run(run)`` in place of a graph's ``run``."""
    with _restored(server, graph, model) as batcher:
        batcher._run = make_run(batcher._run)
        yield


@contextlib.contextmanager
def _restored(server, graph, model) -> Iterator:
    """Lend a batcher; afterwards it is as it was, and has not learned what waiting costs."""
    batcher = server.app.registry.get(model).runner(graph)
    scheduler = batcher.scheduler
    names = ("costs", "wide_costs", "_margin", "_limits")
    with batcher.lock:
        run, before = batcher._run, {name: getattr(scheduler, name) for name in names}
        for name in names[:3]:
            setattr(scheduler, name, _copy(before[name]))
    try:
        yield batcher
    finally:
        server.call(_idle(batcher))
        with batcher.lock:
            batcher._run = run
            for name, value in before.items():
                setattr(scheduler, name, value)


def _copy(learned):
    twin = type(learned)()
    twin.__dict__.update(learned.__dict__)
    return twin


async def _idle(batcher) -> None:
    while not batcher.scheduler._idle:  # noqa: ASYNC110 - it has no event for this, and needs none
        await asyncio.sleep(0.001)
