"""Counts what a graph does, in the numbers that the Open Inference Protocol asks for."""

import time
from collections.abc import Callable

from stylewire.server.engine_api.graphs import BatchResult
from stylewire.server.engine_api.statistics import GraphStatistics, Total


class Statistics:
    """Counts for one graph, or for all graphs of a model as one; touch it on the event loop only.

    Args:
        now: seconds since 1970; tests pass another clock.

    Attributes:
        counts: until now.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.counts = GraphStatistics()

    def batch(self, size: int, seconds: float) -> None:
        """Count a batch that ran."""
        self.counts.batch_count += 1
        self.counts.batches.setdefault(size, Total()).add(seconds)

    def request(self, result: BatchResult) -> None:
        """Count a request that got its rows."""
        self.count(result.row_count, queue=result.queue_seconds, run=result.run_seconds, output=result.convert_seconds)

    def refused(self) -> None:
        """Count a request that got none."""
        self.counts.fail.add(0.0)

    def count(self, row_count: int, *, queue: float, run: float, output: float, input_: float = 0.0) -> None:
        """Count a request that got its rows, by the seconds that each part of it took."""
        counts = self.counts
        counts.row_count += row_count
        counts.answered_at = self._now()
        parts = (counts.queue, queue), (counts.input, input_), (counts.run, run), (counts.output, output)
        for total, seconds in (*parts, (counts.success, queue + input_ + run + output)):
            total.add(seconds)
