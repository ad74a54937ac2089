"""A batcher with its fakes, for one test."""

import asyncio
import threading
from typing import Self

import numpy as np

from stylewire.server.engine.batching.batcher import Batcher
from stylewire.server.engine.batching.limits import BatchLimits
from support.fakes import FakeClock, FakeGraph, FakeObserver

NEVER = 1e9
"""Seconds that do not pass in a test."""


def rows(*values):
    return {"x": np.array(values, np.float32).reshape(-1, 1)}


class BatcherHarness:
    """A batcher with its fakes, for one ``async with``.

    Attributes:
        graph: what runs batches, and records them.
        instead: runs them in its place, if it is set.
    """

    def __init__(self, **limits) -> None:
        self.graph, self.observer, self.clock = FakeGraph(), FakeObserver(), FakeClock()
        usual = {"max_batch_size": 4, "max_batch_seconds": NEVER, "max_queue_seconds": 10.0}
        self._limits = BatchLimits(**(usual | limits))
        self.instead = None

    def _run(self, inputs, outputs, *, exclusive):
        return (self.instead or self.graph)(inputs, outputs, exclusive=exclusive)

    async def __aenter__(self) -> Self:
        before = set(threading.enumerate())
        self.batcher = Batcher(
            name="fake", run=self._run, observer=self.observer, limits=self._limits, clock=self.clock
        )
        self.threads = set(threading.enumerate()) - before
        self.scheduler = self.batcher.scheduler
        return self

    async def __aexit__(self, *_) -> None:
        self.graph.open_gate()
        await asyncio.wait_for(self.batcher.close(), 30)

    def submit(self, *values, deadline=None, convert=None) -> asyncio.Task:
        return asyncio.ensure_future(self.batcher.submit(rows(*values), ("y",), deadline, convert))

    async def occupy(self) -> asyncio.Task:
        """Keep an instance busy with a batch of one row, 0, until its gate opens; so are the next ones."""
        self.graph.close_gate()
        task = self.submit(0)
        await self.begun(len(self.graph.batches) + 1)
        return task

    async def begun(self, count) -> None:
        """Wait until so many batches have begun to run."""
        await asyncio.to_thread(self.graph.wait_for, count)

    async def settle(self) -> None:
        """Let every task run until it waits."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def until(self, condition) -> None:
        """Let the threads work until it is so."""
        while not condition():  # noqa: ASYNC110 - threads change what it asks for
            await asyncio.sleep(0)

    async def stage(self, *values, **options) -> list[asyncio.Task]:
        """Have a batch of one row of each request taken early, which waits for the instance."""
        tasks = [self.submit(value, **options) for value in values]
        await self.until(lambda: self.scheduler.prepared)
        return tasks


def harness_test(**limits):
    """Run an async test with a ``BatcherHarness``."""

    def wrap(test):
        def run() -> None:
            async def body() -> None:
                async with BatcherHarness(**limits) as harness:
                    await asyncio.wait_for(test(harness), 30)

            asyncio.run(body())

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return wrap


def values(result) -> list[float]:
    return result.outputs["y"][:, 0].tolist()
