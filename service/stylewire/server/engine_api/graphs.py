"""Runs of a graph: what goes in, what comes back, what is observed. No pydantic: the scheduler is pure."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Arrays: TypeAlias = Mapping[str, NDArray[np.float32] | NDArray[np.uint8]]
"""Name of an input or output -> array with a leading batch axis N."""
Convert: TypeAlias = Callable[[Arrays, int], list[Any]]
"""Makes one value of each row, such as an image file; its second argument is the first row's number in the request.

Runs in a thread that has the rows.
"""


class BatchError(RuntimeError):
    """The batch that held a request failed; the cause says why."""


class Dispatch(Enum):
    """Why a batch has the rows it has."""

    IDLE = "idle"
    """Everything that waited."""
    FULL = "full"
    """As many rows as fit, in the order in which they came."""
    FAIRNESS = "fairness"
    """As many as fit; rows of a large request had to wait for the turn of others."""
    SPLIT = "split"
    """Its part of what waited: other instances are free too."""
    SHAPE = "shape"
    """All rows of one shape; those that wait have another."""


class BatchResult(NamedTuple):
    """The rows of one request, and what it took to get them.

    Attributes:
        outputs: output name -> array with the request's rows; empty if they were converted.
        converted: what ``convert`` made of them, a value for each row.
        queue_seconds: from submission until the first row began to run.
        run_seconds: time in which a batch ran that held rows of it.
        convert_seconds: time in which, beside that, rows were converted.
        batch_size: rows in the largest of those batches.
    """

    outputs: Arrays
    converted: list[Any]
    queue_seconds: float
    run_seconds: float
    convert_seconds: float
    batch_size: int

    @property
    def row_count(self) -> int:
        """Count its rows."""
        return len(self.converted) or len(next(iter(self.outputs.values())))


class RunBatch(Protocol):
    """Runs one batch; several threads call it at once, as many as the graph has instances."""

    def __call__(self, inputs: Arrays, outputs: Sequence[str], *, exclusive: bool) -> Arrays:
        """Run; ``exclusive``: with the whole device."""
        ...


class Observer(Protocol):
    """Observes one graph; see ``telemetry.metrics``."""

    def batch(self, size: int, seconds: float, dispatch: Dispatch) -> None:
        """Count a batch that ran."""
        ...

    def request(self, result: BatchResult) -> None:
        """Count a request that got its rows."""
        ...

    def refused(self, reason: str) -> None:
        """Count a request that got none: ``overloaded``, ``deadline``, ``expired``, ``cancelled``, ``failed``."""
        ...


def graph_kind(graph: str) -> str:
    """``encoder-sketch`` -> ``encoder``."""
    return graph.partition("-")[0]
