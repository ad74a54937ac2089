"""What runs one graph: a ``Batcher`` in threads, or ``Inline`` on the event loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from stylewire.server.engine.batching.batcher import Batcher
from stylewire.server.engine.batching.cost_model import CostModel
from stylewire.server.engine.batching.inline import Inline
from stylewire.server.engine.batching.limits import BatchLimits
from stylewire.server.engine.batching.spans import BatchSpans
from stylewire.server.engine_api.graphs import Arrays, BatchResult, Convert, Observer, RunBatch
from stylewire.server.tracing import CallTrace


class GraphRunner(Protocol):
    """Runs rows of one graph. Every method belongs to the event loop, unless it says otherwise."""

    @property
    def name(self) -> str:
        """Such as ``avatars.synthesis``."""
        ...

    async def submit(
        self,
        inputs: Arrays,
        outputs: Sequence[str],
        deadline: float | None = None,
        convert: Convert | None = None,
        trace: CallTrace | None = None,
    ) -> BatchResult:
        """Run some rows; see ``engine_api.graphs.GraphRequest`` for the arguments.

        Raises:
            OverloadedError: the backlog is too long.
            DeadlineError: the deadline cannot be met, or passed in the queue.
            DrainingError: it is closed.
            BackendUnavailableError: the graph hangs.
            BatchError: the batch failed that held rows of this request.
        """
        ...

    def check(self, row_count: int, deadline: float | None = None) -> None:
        """Refuse now what ``submit`` would refuse, before its rows are made; raises as that does."""
        ...

    def backlog_seconds(self) -> float:
        """Predict when everything is through that waits or runs; in any thread."""
        ...

    def waiting_rows(self) -> int:
        """Count the rows that wait; in any thread."""
        ...

    def check_hang(self, hang_seconds: float) -> bool:
        """Return whether a batch has been running for longer than that; those that wait then get an error."""
        ...

    async def close(self) -> None:
        """Finish what waits, and refuse what comes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSpec:
    """What a runner is made of.

    Attributes:
        name: such as ``avatars.synthesis``.
        run: runs one batch.
        observer: counts what happens.
        limits: of batches and the queue.
        spans: of the graph.
        costs: what batches cost, as far as it is known.
        exclusive_costs: the same of those that have the whole device.
        inline: whether the graph is so small that the event loop runs it.
    """

    name: str
    run: RunBatch
    observer: Observer
    limits: BatchLimits
    spans: BatchSpans
    costs: CostModel = field(default_factory=CostModel)
    exclusive_costs: CostModel = field(default_factory=CostModel)
    inline: bool = False


MakeRunner: TypeAlias = Callable[[RunnerSpec], GraphRunner]


def make_runner(spec: RunnerSpec) -> GraphRunner:
    """Make what runs a graph; on the event loop."""
    name, run, observer, spans = spec.name, spec.run, spec.observer, spec.spans
    if spec.inline:
        size = spec.limits.max_batch_size
        return Inline(name=name, run=run, observer=observer, max_batch_size=size, spans=spans)
    costs = spec.costs, spec.exclusive_costs
    return Batcher(name=name, run=run, observer=observer, limits=spec.limits, spans=spans, costs=costs)
