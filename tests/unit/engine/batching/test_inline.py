"""Graphs that run on the event loop."""

import asyncio

import numpy as np
import pytest

from stylewire.errors import BackendUnavailableError, DrainingError
from stylewire.server.engine.batching.inline import Inline
from stylewire.server.engine_api.graphs import BatchError, Dispatch
from support.fakes import FakeCall, FakeClock, FakeObserver


def rows(*values):
    return {"x": np.array(values, np.float32).reshape(-1, 1)}


class InlineHarness:
    """An inline graph that doubles its rows, a second each."""

    def __init__(self) -> None:
        self.observer, self.clock, self.batches = FakeObserver(), FakeClock(), []
        self.inline = Inline(name="fake", run=self.run, observer=self.observer, max_batch_size=4, clock=self.clock)

    def run(self, inputs, outputs, *, exclusive):
        assert not exclusive
        self.batches.append(inputs["x"][:, 0].tolist())
        self.clock.now += len(inputs["x"])
        if 13 in inputs["x"]:
            raise ArithmeticError("poisoned")
        if 14 in inputs["x"]:
            raise BackendUnavailableError("gone")
        return {name: inputs["x"] * np.float32(2) for name in outputs}

    def submit(self, *values, **options):
        return asyncio.run(self.inline.submit(rows(*values), ("y",), **options))


def test_request_runs_at_once():
    """Rows come back in order with what they took; nothing waits."""
    harness = InlineHarness()
    result = harness.submit(1, 2, 3)

    assert [2, 4, 6] == result.outputs["y"][:, 0].tolist()
    assert (0.0, 3.0, 0.0, 3) == (result.queue_seconds, result.run_seconds, result.convert_seconds, result.batch_size)
    assert [result] == harness.observer.entries
    assert [Dispatch.IDLE] == harness.observer.dispatches


def test_large_request_runs_in_parts():
    """A request of more rows than a batch gives the event loop its turn between the parts."""
    harness = InlineHarness()
    turns = []

    async def count_turns():
        for _ in range(3):
            turns.append(len(harness.batches))
            await asyncio.sleep(0)

    async def body():
        return (await asyncio.gather(harness.inline.submit(rows(*range(10)), ("y",)), count_turns()))[0]

    result = asyncio.run(body())

    assert [2.0 * value for value in range(10)] == result.outputs["y"][:, 0].tolist()
    assert [4, 4, 2] == harness.observer.batches
    assert [1, 2, 3] == turns
    assert 10.0 == result.run_seconds
    assert 4 == result.batch_size


def test_rows_are_converted():
    """Converted rows come instead of outputs."""
    result = InlineHarness().submit(1, 2, convert=lambda outputs, start: [f"{value:g}" for value in outputs["y"][:, 0]])

    assert ({}, ["2", "4"]) == (result.outputs, result.converted)


def test_failure_is_counted_and_explained():
    """What a backend raises becomes a BatchError with its cause; an error that tells the caller what to do stays."""
    harness = InlineHarness()

    with pytest.raises(BatchError) as caught:
        harness.submit(13)
    assert isinstance(caught.value.__cause__, ArithmeticError)
    with pytest.raises(BackendUnavailableError, match="gone"):
        harness.submit(14)
    assert ["failed", "failed"] == harness.observer.refusals
    assert [] == harness.observer.batches


def test_runs_are_told_to_the_call_that_is_traced():
    """Every part that ran, or failed, is a phase of the call, with the rows it had."""
    harness, call = InlineHarness(), FakeCall()
    began = harness.clock.now

    async def followed(*values):
        await harness.inline.submit(rows(*values), ("y",), trace=call)

    asyncio.run(followed(1, 2, 3, 4, 5))
    with pytest.raises(BatchError):
        asyncio.run(followed(13))
    asyncio.run(harness.inline.submit(rows(6), ("y",)))  # of nobody who is traced

    assert [(0.0, 4.0, 4, ""), (4.0, 5.0, 1, ""), (5.0, 6.0, 1, "ArithmeticError")] == [
        (phase.start - began, phase.stop - began, phase.attributes["stylewire.batch.size"], phase.error)
        for phase in call.phases
    ]


def test_closed_graph_refuses():
    """After close a request is told that the server stops."""
    harness = InlineHarness()
    asyncio.run(harness.inline.close())

    with pytest.raises(DrainingError):
        harness.submit(1)
    assert [] == harness.batches
