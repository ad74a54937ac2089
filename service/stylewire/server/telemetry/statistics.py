"""What a graph has done since its model was loaded, in the numbers that the Open Inference Protocol asks for."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from stylewire.server.engine.batching.batch import BatchResult, Dispatch


@dataclass(slots=True)
class Total:
    """How often something happened, and how long it took altogether."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count it once more."""
        self.count += 1
        self.seconds += seconds


class Statistics:
    """Counts of one graph, or of all graphs of a model as one; touch it on the event loop only.

    Args:
        now: seconds since 1970; tests give their own.

    Attributes:
        row_count: rows that were answered.
        batch_count: batches that ran.
        answered_at: when a request was answered last, in seconds since 1970; 0 for never.
        success: requests that were answered, and the sum of the four parts of their time.
        fail: requests that were not; their time is taken for whole models only.
        queue: waiting for graphs.
        input: reading what a request holds.
        run: running graphs.
        output: making bytes of what they gave.
        batches: rows of a batch -> runs of that size.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.row_count = self.batch_count = 0
        self.answered_at = 0.0
        self.success, self.fail = Total(), Total()
        self.queue, self.input, self.run, self.output = Total(), Total(), Total(), Total()
        self.batches: dict[int, Total] = {}

    def batch(self, size: int, seconds: float, dispatch: Dispatch) -> None:  # noqa: ARG002 - the face of an observer
        """Count a batch that ran."""
        self.batch_count += 1
        self.batches.setdefault(size, Total()).add(seconds)

    def entry(self, result: BatchResult) -> None:
        """Count a request that got its rows."""
        self.request(
            result.row_count, queue=result.queue_seconds, run=result.run_seconds, output=result.convert_seconds
        )

    def refused(self, reason: str) -> None:  # noqa: ARG002 - all are told as one
        """Count a request that got none."""
        self.fail.add(0.0)

    def request(self, row_count: int, *, queue: float, run: float, output: float, input_: float = 0.0) -> None:
        """Count a request that got its rows, by the seconds that each part of it took."""
        self.row_count += row_count
        self.answered_at = self._now()
        self.queue.add(queue)
        self.input.add(input_)
        self.run.add(run)
        self.output.add(output)
        self.success.add(queue + input_ + run + output)
