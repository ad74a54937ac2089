"""Graphs of a running server that wait, sleep or fail when a test says so."""

import asyncio
import contextlib
import copy
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from stylewire.server.engine.batching.cost_model import CostModel
from stylewire.server.engine.batching.runner import RunnerSpec, make_runner
from stylewire.server.engine.models.loader import Loader

TIMEOUT_SECONDS = 30


class Submitted(NamedTuple):
    """What a graph was asked for."""

    outputs: Sequence[str]
    deadline: float | None
    trace: object


class ExchangeableRunner:
    """A ``GraphRunner`` in whose place a test may put one of its own for a while.

    Attributes:
        spec: what it is made of.
        runner: what runs the graph now.
        seen: the latest requests.
    """

    def __init__(self, spec: RunnerSpec) -> None:
        self.spec = spec
        self.runner = self._own = make_runner(spec)
        self.name = spec.name
        self.seen: deque[Submitted] = deque(maxlen=100)

    async def submit(self, inputs, outputs, deadline=None, convert=None, trace=None):
        self.seen.append(Submitted(outputs, deadline, trace))
        return await self.runner.submit(inputs, outputs, deadline, convert, trace)

    def check(self, row_count, deadline=None):
        self.runner.check(row_count, deadline)

    def backlog_seconds(self):
        return self.runner.backlog_seconds()

    def waiting_rows(self):
        return self.runner.waiting_rows()

    def check_hang(self, hang_seconds):
        return self.runner.check_hang(hang_seconds)

    async def close(self):
        await self.runner.close()

    async def put(self, **changes) -> None:
        """Run the graph by a runner that differs in these; it knows what the other knew at its start."""
        costs = {name: copy.copy(getattr(self.spec, name)) for name in ("costs", "exclusive_costs")}
        self.runner = make_runner(replace(self.spec, **costs, **changes))

    async def restore(self) -> None:
        """Run the graph by its own runner again, once the other has finished."""
        other, self.runner = self.runner, self._own
        await other.close()


class HeldLoads:
    """Holds every load at its beginning until ``go`` is set; a constructor argument of ``App`` and others.

    Args:
        names: of the models; none for all.

    Attributes:
        begun: set when one has begun.
        go: lets them go on.
    """

    def __init__(self, names=()) -> None:
        self._names = names
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, *args) -> "HeldLoads":
        self._loader = Loader(*args)
        self.read = self._loader.read
        return self

    def hold(self) -> None:
        """Hold those that begin from now on."""
        self.go.clear()
        self.begun.clear()

    async def load(self, unloaded):
        if self._names and unloaded.status.info.name not in self._names:
            return await self._loader.load(unloaded)
        self.begun.set()
        assert await asyncio.to_thread(self.go.wait, TIMEOUT_SECONDS), "nobody let it go on"
        return await self._loader.load(unloaded)


class Graphs(dict[str, ExchangeableRunner]):
    """The graphs of one server, such as ``avatars.synthesis``; makes their runners for the server.

    Args:
        local: whether they run in its process; those that run elsewhere must not hold the event loop.
    """

    def __init__(self, *, local: bool = True) -> None:
        super().__init__()
        self._local = local

    def __call__(self, spec: RunnerSpec) -> ExchangeableRunner:
        if self._local and spec.name.endswith(".mapping"):  # however slow it was while the machine was busy
            spec = replace(spec, inline=True)
        self[spec.name] = runner = ExchangeableRunner(spec)
        return runner


class Gate:
    """Stands before a graph, which has one instance meanwhile: batches wait in their thread until ``open`` is called.

    Attributes:
        sizes: rows of the batches that arrived, in order.
    """

    def __init__(self, graph: ExchangeableRunner) -> None:
        self.sizes: list[int] = []
        self._graph, self._run = graph, graph.spec.run
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def wait_for(self, *, batches: int = 0, waiting_rows: int = 0) -> None:
        """Wait until so many batches arrived at the gate and so many rows wait behind them."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while len(self.sizes) < batches or self._graph.waiting_rows() < waiting_rows:
            assert time.monotonic() < deadline, f"batches of {self.sizes}, {self._graph.waiting_rows()} rows waiting"
            time.sleep(0.001)

    def make_expensive(self, seconds: float) -> None:
        """Make the server believe that a row takes so long; a batch waits at the gate, so it has not forgotten."""
        batcher = self._graph.runner
        with batcher.lock:
            batcher.scheduler.costs = CostModel.of([(1, seconds)])

    def run(self, inputs, outputs, *, exclusive):
        self.sizes.append(len(next(iter(inputs.values()))))
        assert self._opened.wait(TIMEOUT_SECONDS), "nobody opened the gate"
        return self._run(inputs, outputs, exclusive=exclusive)


@contextlib.contextmanager
def held(server, graph: str, model: str = "") -> Iterator[Gate]:
    """Hold a graph of a running server; it is open again afterwards."""
    gate = Gate(_graph(server, graph, model))
    with _exchanged(server, graph, model, run=gate.run, limits=_one_instance(server, graph, model)):
        try:
            yield gate
        finally:
            gate.open()


@contextlib.contextmanager
def one_instance(server, graph: str, model: str = "") -> Iterator[None]:
    """Let batches of a graph run one after the other, however many cores there are."""
    with _exchanged(server, graph, model, limits=_one_instance(server, graph, model)):
        yield


@contextlib.contextmanager
def replaced(server, graph: str, make_run, model: str = "") -> Iterator[None]:
    """Run ``make_run(run)`` in place of a graph's ``run``."""
    with _exchanged(server, graph, model, run=make_run(_graph(server, graph, model).spec.run)):
        yield


@contextlib.contextmanager
def submitted(server, graph: str, model: str = "") -> Iterator[deque[Submitted]]:
    """Note what a graph is asked for."""
    seen = _graph(server, graph, model).seen
    seen.clear()
    yield seen


@contextlib.contextmanager
def closed(server, graph: str, model: str = "") -> Iterator[None]:
    """Let a graph refuse what comes, as when the server stops."""
    with _exchanged(server, graph, model):
        server.call(_graph(server, graph, model).close())
        yield


@contextlib.contextmanager
def _exchanged(server, graph, model, **changes) -> Iterator[None]:
    exchangeable = _graph(server, graph, model)
    server.call(exchangeable.put(**changes))
    try:
        yield
    finally:
        server.call(exchangeable.restore())


def _graph(server, graph, model) -> ExchangeableRunner:
    return server.graphs[f"{server.app.engine.catalog.find(model).info.name}.{graph}"]


def _one_instance(server, graph, model):
    size = server.settings.max_batch_size  # whatever the warm-up found while the machine was busy
    return replace(_graph(server, graph, model).spec.limits, max_batch_size=size, instances=1, exclusive=False)
