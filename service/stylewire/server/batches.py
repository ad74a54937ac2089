"""A batch: rows of several requests, stacked for one run and split again."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from stylewire.server.backends import Arrays

_Rows: TypeAlias = NDArray[np.float32] | NDArray[np.uint8]


class BatchError(RuntimeError):
    """The batch that held a request failed; the cause says why."""


class BatchResult(NamedTuple):
    """The rows of one request, and what it took to get them.

    Attributes:
        outputs: output name -> array with the request's rows.
        queue_seconds: from submission until the first row began to run.
        run_seconds: run time of the batches that held its rows.
        batch_size: rows in the largest of those batches.
    """

    outputs: Arrays
    queue_seconds: float
    run_seconds: float
    batch_size: int


@dataclass(slots=True, eq=False)
class Entry:
    """A request that waits or runs: its rows, how far they are, and where the answer goes."""

    inputs: Arrays
    wanted: frozenset[str]
    row_count: int
    deadline: float | None
    submitted: float
    future: asyncio.Future[BatchResult]
    shapes: tuple[tuple[int, ...], ...]
    started: float | None = None
    taken: int = 0
    run_seconds: float = 0.0
    batch_size: int = 0
    parts: list[Arrays] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Rows that no batch has taken yet."""
        return self.row_count - self.taken


class Share(NamedTuple):
    """Rows ``start`` up to ``stop`` of an entry, as part of a batch."""

    entry: Entry
    start: int
    stop: int


def batch_size(batch: list[Share]) -> int:
    """Count the rows."""
    return sum(share.stop - share.start for share in batch)


def stack(batch: list[Share]) -> Arrays:
    """Make the inputs of one run."""
    names = batch[0].entry.inputs
    return {
        name: _concatenate([share.entry.inputs[name][share.start : share.stop] for share in batch]) for name in names
    }


def split(batch: list[Share], outputs: Arrays) -> Iterator[Arrays]:
    """Give each share its rows of the outputs it wants.

    Raises:
        ValueError: an output has not one row for each row of the batch.
    """
    size = batch_size(batch)
    for name, array in outputs.items():
        if len(array) != size:
            raise ValueError(f"output {name} has {len(array)} rows for a batch of {size}")
    row = 0
    for share in batch:
        stop = row + share.stop - share.start
        yield {name: outputs[name][row:stop] for name in share.entry.wanted}
        row = stop


def join(parts: list[Arrays]) -> Arrays:
    """Put the rows of a request together that ran in several batches."""
    return {name: _concatenate([part[name] for part in parts]) for name in parts[0]}


def _concatenate(arrays: list[_Rows]) -> _Rows:
    if len(arrays) == 1:
        return arrays[0]
    return cast("_Rows", np.concatenate(arrays))
