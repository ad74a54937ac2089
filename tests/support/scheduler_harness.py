"""A scheduler under a fake clock, and requests for it."""

import numpy as np

from stylewire.server.engine.batching.batch import Batch, QueuedRequest
from stylewire.server.engine.batching.limits import BatchLimits
from stylewire.server.engine.batching.scheduler import Scheduler
from support.fakes import FakeClock, FakeFuture

NEVER = 1e9
"""Seconds that do not pass in a test."""


def make_entry(clock, row_count=1, has=None, width=1) -> QueuedRequest:
    """Make a request of ``row_count`` rows of ``width`` values that must be through in ``has`` seconds."""
    rows = {"x": np.zeros((row_count, width), np.float32)}
    deadline = None if has is None else clock() + has
    return QueuedRequest(rows, frozenset(["y"]), row_count, deadline, clock(), FakeFuture())


class SchedulerHarness:
    """A scheduler under a fake clock.

    Args:
        row_seconds: what a row costs, as learned from batches of several sizes; None if nothing is known.
    """

    def __init__(self, *, row_seconds=None, **limits) -> None:
        unlimited = {"max_batch_size": 4, "max_batch_seconds": NEVER, "max_queue_seconds": NEVER}
        self.clock = FakeClock()
        self.scheduler = Scheduler("fake", BatchLimits(**(unlimited | limits)), self.clock)
        if row_seconds is not None:
            learn_line(self.scheduler.costs, row_seconds)

    def push(self, row_count=1, has=None, width=1) -> QueuedRequest:
        entry = make_entry(self.clock, row_count, has, width)
        self.scheduler.push(entry)
        return entry

    def leave(self, entry) -> None:
        entry.future.finish()
        self.scheduler.remove(entry)

    def start(self) -> Batch:
        """Take a batch and start it."""
        batch = self.scheduler.take()
        self.scheduler.start(batch)
        return batch

    def occupy(self, row_count=1) -> Batch:
        """Keep an instance busy with a batch of somebody else."""
        self.push(row_count)
        return self.start()

    def finish(self, batch, seconds=0.0) -> None:
        self.clock.now += seconds
        self.scheduler.finish(batch)

    def serve(self, entry, seconds) -> None:
        """Run a request that is alone, and answer it."""
        self.finish(self.start(), seconds)
        entry.future.finish()
        self.scheduler.learn(entry)


def learn_line(costs, row_seconds) -> None:
    for size in (1, 2, 4):
        costs.learn(size, row_seconds * size)


def members(batch) -> list[QueuedRequest]:
    return [part.request for part in batch.slices]


def spans(batch) -> list[tuple[int, int]]:
    return [(start, stop) for _, start, stop in batch.slices]
