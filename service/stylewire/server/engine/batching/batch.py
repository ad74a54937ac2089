"""A batch: rows of several requests, stacked for one run and split again."""

import asyncio
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from stylewire.errors import StylewireError
from stylewire.server.engine_api.graphs import Arrays, BatchError, BatchResult, Convert, Dispatch
from stylewire.server.tracing import CallTrace

Span: TypeAlias = tuple[float, float]
"""From when until when, on the batcher's clock."""
_Rows: TypeAlias = NDArray[np.float32] | NDArray[np.uint8]


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """A request that waits or runs: its rows, how far they are, and where the answer goes."""

    inputs: Arrays
    wanted: frozenset[str]
    row_count: int
    deadline: float | None
    submitted: float
    future: "asyncio.Future[BatchResult]"
    convert: Convert | None = None
    trace: CallTrace | None = None
    """The call that it belongs to, if that is traced."""
    started: float | None = None
    """When its first row began to run."""
    waits: bool = False
    """Whether it has rows in the queue."""
    predicted_seconds: float = 0.0
    """Seconds that it was predicted to take when it was admitted."""
    taken: int = 0
    done: int = 0
    runs: list[Span] = field(default_factory=list)
    converts: list[Span] = field(default_factory=list)
    batch_size: int = 0
    parts: "dict[int, Arrays | list[Any]]" = field(default_factory=dict)
    """First row -> rows; batches that run side by side end in any order."""
    shapes: tuple[tuple[int, ...], ...] = field(init=False)
    """Of a row of each input: rows of different shapes cannot be stacked."""

    def __post_init__(self) -> None:
        self.shapes = tuple(array.shape[1:] for array in self.inputs.values())

    @property
    def left(self) -> int:
        """Rows that no batch has taken yet."""
        return self.row_count - self.taken

    def dead(self, now: float) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done() or (self.deadline is not None and self.deadline <= now)

    def count(self, batch: "Batch", converted: Span | None) -> None:
        """Count a batch that held rows of it."""
        assert batch.started is not None
        self.runs.append((batch.started, batch.started + batch.run_seconds))
        if converted:
            self.converts.append(converted)
        self.batch_size = max(self.batch_size, batch.size)

    def add(self, start: int, rows: "Arrays | list[Any]", count: int) -> bool:
        """Keep the result of some rows; returns whether these were the last."""
        self.parts[start] = rows
        self.done += count
        return self.done == self.row_count

    def result(self) -> BatchResult:
        """Put its rows together; all are done."""
        parts = [self.parts[start] for start in sorted(self.parts)]
        outputs: Arrays = {}
        converted: list[Any] = []
        if self.convert:
            converted = [value for part in parts for value in part]
        else:
            outputs = join(cast("list[Arrays]", parts))
        assert self.started is not None
        waited = self.started - self.submitted
        ran = _covered(self.runs)
        beside = _covered(self.runs + self.converts) - ran
        return BatchResult(outputs, converted, waited, ran, beside, self.batch_size)


class BatchSlice(NamedTuple):
    """Rows ``start`` up to ``stop`` of a request, as part of a batch."""

    request: QueuedRequest
    start: int
    stop: int


class SliceResult(NamedTuple):
    """What became of a slice: rows, what was made of them, or why there are none; and when they were converted."""

    part: BatchSlice
    rows: Arrays | list[Any] | Exception
    converted: Span | None = None


@dataclass(slots=True, eq=False)
class Batch:
    """Rows that run together.

    Attributes:
        slices: of different requests.
        exclusive: whether it has the whole device for itself.
        dispatch: why it has these rows.
        started: when its run began; None before.
        run_seconds: how long it ran.
    """

    slices: list[BatchSlice]
    exclusive: bool
    dispatch: Dispatch
    started: float | None = None
    run_seconds: float = 0.0
    _on_cancelled: Callable[[], object] | None = None

    @property
    def deadline(self) -> float | None:
        """When the last of its callers stops to wait; None: somebody has no deadline."""
        deadlines = [each.request.deadline for each in self.slices]
        return None if None in deadlines else max((each for each in deadlines if each is not None), default=None)

    @property
    def abandoned(self) -> bool:
        """Whether all of its callers have left."""
        return all(each.request.future.done() for each in self.slices)

    def on_cancelled(self, call: Callable[[], object]) -> None:
        """Have something called when all have left; see ``backends.cancellation``."""
        self._on_cancelled = call
        self.notify_cancelled()  # they may have left just before

    def notify_cancelled(self) -> None:
        """Call that, if all have left."""
        if self._on_cancelled and self.abandoned:
            self._on_cancelled()

    @property
    def size(self) -> int:
        """Count the rows."""
        return count_rows(self.slices)

    def drop_dead(self, now: float) -> list[QueuedRequest]:
        """Leave those out that nobody waits for any more, and return them."""
        dead = [each.request for each in self.slices if each.request.dead(now)]
        if dead:
            self.slices = [each for each in self.slices if each.request not in dead]
        return dead

    @property
    def wanted(self) -> list[str]:
        """Names of all outputs that somebody wants."""
        return sorted(frozenset[str]().union(*(each.request.wanted for each in self.slices)))


def count_rows(slices: list[BatchSlice]) -> int:
    """Count the rows of some slices."""
    return sum(each.stop - each.start for each in slices)


def stack(slices: list[BatchSlice]) -> Arrays:
    """Make the inputs of one run."""
    names = slices[0].request.inputs
    return {
        name: _concatenate([each.request.inputs[name][each.start : each.stop] for each in slices]) for name in names
    }


def split(slices: list[BatchSlice], outputs: Arrays) -> Iterator[Arrays]:
    """Yield for each slice its rows of the outputs it wants.

    Raises:
        ValueError: an output has not one row for each row of the batch.
    """
    size = count_rows(slices)
    for name, array in outputs.items():
        if len(array) != size:
            raise ValueError(f"output {name} has {len(array)} rows for a batch of {size}")
    row = 0
    for each in slices:
        stop = row + each.stop - each.start
        yield {name: outputs[name][row:stop] for name in each.request.wanted}
        row = stop


def convert_slice(part: BatchSlice, rows: Arrays, clock: Callable[[], float]) -> SliceResult:
    """Convert the rows of a slice, if its request asks for it; an error there belongs to that request only."""
    request = part.request
    if request.convert is None or request.future.done():
        return SliceResult(part, rows)
    started = clock()
    try:
        converted: list[Any] | Exception = request.convert(rows, part.start)
    except Exception as err:  # noqa: BLE001 - goes to the caller
        converted = err
    return SliceResult(part, converted, (started, clock()))


def join(parts: list[Arrays]) -> Arrays:
    """Put the rows of a request together that ran in several batches."""
    return {name: _concatenate([part[name] for part in parts]) for name in parts[0]}


def own_error(err: Exception, name: str) -> Exception:
    """Return an exception of its own for a caller: they are raised, and changed, in different tasks.

    Args:
        err: what a batch failed with.
        name: of the graph.
    """
    if isinstance(err, StylewireError):
        return copy.copy(err)
    own = BatchError(f"a batch of {name} failed")
    own.__cause__ = err
    return own


def _covered(spans: list[Span]) -> float:
    """Seconds in at least one of the spans: batches of a request may run side by side."""
    if len(spans) == 1:
        return spans[0][1] - spans[0][0]
    seconds, reached = 0.0, float("-inf")
    for start, stop in sorted(spans):
        seconds += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return seconds


def _concatenate(arrays: list[_Rows]) -> _Rows:
    if len(arrays) == 1:
        return arrays[0]
    return cast("_Rows", np.concatenate(arrays))
