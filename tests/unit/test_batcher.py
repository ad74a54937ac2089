"""The batcher, against a fake graph and a fake clock."""

import asyncio
import contextlib
from typing import Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylewire.errors import DeadlineError, DrainingError, OverloadedError
from stylewire.server.batcher import Batcher
from stylewire.server.batches import BatchError
from support.fakes import FakeClock, FakeGraph, FakeObserver


def rows(*values):
    return {"x": np.array(values, np.float32).reshape(-1, 1)}


class Bench:
    """A batcher with its fakes, for one ``async with``."""

    def __init__(self, max_batch_size=4, max_queue_seconds=10.0) -> None:
        self.graph, self.observer, self.clock = FakeGraph(), FakeObserver(), FakeClock()
        self._limits = {"max_batch_size": max_batch_size, "max_queue_seconds": max_queue_seconds}

    async def __aenter__(self) -> Self:
        self.batcher = Batcher(name="fake", run=self.graph, observer=self.observer, clock=self.clock, **self._limits)
        return self

    async def __aexit__(self, *_) -> None:
        self.graph.open_gate()
        await self.batcher.close()

    def submit(self, *values, deadline=None) -> asyncio.Task:
        return asyncio.ensure_future(self.batcher.submit(rows(*values), ("y",), deadline))

    async def occupy(self) -> asyncio.Task:
        """Keep the worker busy with a batch of one row, 0, until the gate opens."""
        self.graph.close_gate()
        task = self.submit(0)
        await asyncio.to_thread(self.graph.started.wait, 30)
        return task

    async def settle(self) -> None:
        """Let every task run until it waits."""
        for _ in range(5):
            await asyncio.sleep(0)


def bench_test(**limits):
    """Run an async test with a ``Bench``."""

    def wrap(test):
        def run() -> None:
            async def body() -> None:
                async with Bench(**limits) as bench:
                    await asyncio.wait_for(test(bench), 30)

            asyncio.run(body())

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return wrap


def values(result) -> list[float]:
    return result.outputs["y"][:, 0].tolist()


@bench_test()
async def test_lone_request_runs_at_once(bench):
    """A request on an idle batcher runs alone and gets its own rows."""
    result = await bench.submit(1, 2)

    assert [2, 4] == values(result)
    assert [[1, 2]] == bench.graph.batches
    assert 2 == result.batch_size


@bench_test()
async def test_waiting_requests_share_a_batch(bench):
    """What waits while a batch runs makes up the next one, and everybody gets their own rows."""
    first = await bench.occupy()
    others = [bench.submit(value) for value in (1, 2, 3)]
    await bench.settle()
    bench.graph.open_gate()

    assert [[0], [2], [4], [6]] == [values(await task) for task in (first, *others)]
    assert [[0], [1, 2, 3]] == bench.graph.batches


@bench_test(max_batch_size=4)
async def test_batches_count_rows_and_keep_their_order(bench):
    """A request larger than a batch runs in several, in order."""
    result = await bench.submit(*range(10))

    assert [2.0 * value for value in range(10)] == values(result)
    assert [4, 4, 2] == bench.observer.batches
    assert 4 == result.batch_size


@bench_test(max_batch_size=4)
async def test_large_request_does_not_starve_a_small_one(bench):
    """A row that arrives behind 64 others is in the very next batch."""
    first = await bench.occupy()
    large = bench.submit(*range(100, 164))
    await bench.settle()
    small = bench.submit(7)
    await bench.settle()
    bench.graph.open_gate()
    await asyncio.gather(first, large, small)

    assert 7 in bench.graph.batches[1]


@bench_test(max_batch_size=4)
async def test_many_requests_take_turns(bench):
    """With more requests than rows in a batch, those left out come first into the next."""
    first = await bench.occupy()
    tasks = [bench.submit(10 * n, 10 * n + 1) for n in range(1, 7)]
    await bench.settle()
    bench.graph.open_gate()
    await asyncio.gather(first, *tasks)

    assert [[0], [10, 20, 30, 40], [50, 60, 11, 21], [31, 41, 51, 61]] == bench.graph.batches


@bench_test()
async def test_cancelled_request_never_runs(bench):
    """A request whose caller leaves is dropped and counted; its neighbors are answered."""
    first = await bench.occupy()
    gone, stays = bench.submit(1), bench.submit(2)
    await bench.settle()
    gone.cancel()
    await bench.settle()
    bench.graph.open_gate()

    assert [4] == values(await stays)
    assert [[0], [2]] == bench.graph.batches
    assert ["cancelled"] == bench.observer.refusals
    await first


@bench_test()
async def test_caller_that_leaves_a_running_batch_disturbs_nobody(bench):
    """Cancelling a request in the batch that runs is counted and leaves the others their rows."""
    first = await bench.occupy()
    stays = bench.submit(2)
    await bench.settle()
    first.cancel()
    bench.graph.open_gate()

    assert [4] == values(await stays)
    assert ["cancelled"] == bench.observer.refusals


@bench_test()
async def test_expired_request_never_runs(bench):
    """A request whose deadline passes in the queue gets DeadlineError and is not executed."""
    first = await bench.occupy()
    late = bench.submit(1, deadline=bench.clock.now + 5)
    await bench.settle()
    bench.clock.now += 6
    bench.graph.open_gate()

    with pytest.raises(DeadlineError):
        await late
    await first
    assert [[0]] == bench.graph.batches
    assert ["expired"] == bench.observer.refusals


@bench_test()
async def test_deadline_that_cannot_be_met_is_refused_at_the_door(bench):
    """With learned costs a hopeless request is refused before it waits."""
    bench.batcher.costs.learn(1, 2.0)

    with pytest.raises(DeadlineError):
        await bench.submit(1, deadline=bench.clock.now + 1)
    assert ["deadline"] == bench.observer.refusals
    assert [] == bench.graph.batches


@bench_test(max_queue_seconds=3.0)
async def test_backlog_over_the_limit_is_refused_with_a_hint(bench):
    """When the predicted backlog is too long the next request learns when to come back."""
    for size in (1, 2, 4):
        bench.batcher.costs.learn(size, float(size))
    first = await bench.occupy()
    waiting = [bench.submit(1, 2, 3, 4)]
    await bench.settle()

    with pytest.raises(OverloadedError) as caught:
        await bench.submit(5)
    assert caught.value.retry_after_seconds == pytest.approx(3.5)
    assert ["overloaded"] == bench.observer.refusals
    bench.graph.open_gate()
    await asyncio.gather(first, *waiting)


@bench_test(max_queue_seconds=0.5)
async def test_idle_batcher_takes_a_request_of_any_length(bench):
    """An empty queue refuses nothing, however much a request costs."""
    bench.batcher.costs.learn(1, 100.0)

    assert [2] == values(await bench.submit(1))


@bench_test()
async def test_failing_batch_fails_only_itself(bench):
    """Callers of the failed batch get an error with its cause; the next batch runs."""
    bench.graph.poison = 13
    first = await bench.occupy()
    poisoned, neighbor = bench.submit(13), bench.submit(1)
    await bench.settle()
    bench.graph.open_gate()
    await first

    errors = await asyncio.gather(poisoned, neighbor, return_exceptions=True)
    assert [BatchError] * 2 == [type(error) for error in errors]
    assert errors[0] is not errors[1]
    assert isinstance(errors[0].__cause__, ArithmeticError)
    assert [4] == values(await bench.submit(2))


@bench_test(max_batch_size=2)
async def test_rows_left_of_a_failed_request_do_not_run(bench):
    """When one batch of a large request fails, the rest of it is dropped and counted once."""
    bench.graph.poison = 1

    with pytest.raises(BatchError):
        await bench.submit(1, 2, 3, 4, 5, 6)
    await bench.submit(9)
    assert [[1, 2], [9]] == bench.graph.batches
    assert ["failed"] == bench.observer.refusals


@bench_test()
async def test_wrong_row_count_from_a_graph_is_an_error(bench):
    """A graph that answers with too few rows fails its batch; nobody gets another's rows."""
    bench.batcher._run = lambda inputs, outputs: {"y": inputs["x"][:1]}

    with pytest.raises(BatchError):
        await bench.submit(1, 2)


@bench_test()
async def test_shapes_never_mix(bench):
    """Requests with rows of different shapes run in different batches."""
    first = await bench.occupy()
    wide = asyncio.ensure_future(bench.batcher.submit({"x": np.ones((1, 3), np.float32)}, ("y",)))
    narrow = bench.submit(5)
    await bench.settle()
    bench.graph.open_gate()
    await asyncio.gather(first, wide, narrow)

    assert [[0], [1], [5]] == bench.graph.batches
    assert (1, 3) == wide.result().outputs["y"].shape


@bench_test()
async def test_closing_finishes_what_waits_and_refuses_what_comes(bench):
    """Close answers the waiting requests; a later one is told that the server stops."""
    first = await bench.occupy()
    waiting = bench.submit(3)
    await bench.settle()
    closing = asyncio.ensure_future(bench.batcher.close())
    await bench.settle()

    with pytest.raises(DrainingError):
        await bench.submit(4)
    bench.graph.open_gate()
    await closing
    assert [6] == values(await waiting)
    await first


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from(["stay", "leave", "expire"]), st.booleans()),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 5),
)
def test_everybody_gets_their_own_rows_or_an_error(requests, max_batch_size):
    """Whatever comes, leaves, expires or fails: each caller gets exactly its rows, in order, or its own error."""

    async def play() -> None:
        async with Bench(max_batch_size=max_batch_size) as bench:
            bench.graph.poison = -1
            first = await bench.occupy()
            tasks = []
            for index, (count, fate, poisoned) in enumerate(requests):
                mine = [100.0 * index + row for row in range(1, count + 1)]
                if poisoned:
                    mine[-1] = -1.0
                deadline = bench.clock.now + 1 if fate == "expire" else None
                tasks.append((mine, fate, bench.submit(*mine, deadline=deadline)))
            await bench.settle()
            for _, fate, task in tasks:
                if fate == "leave":
                    task.cancel()
            await bench.settle()
            bench.clock.now += 2
            bench.graph.open_gate()
            await first
            for mine, fate, task in tasks:
                expected = {"stay": BatchError, "leave": asyncio.CancelledError, "expire": DeadlineError}[fate]
                with contextlib.suppress(expected):
                    assert [2 * value for value in mine] == values(await task)
                    assert fate == "stay"
            ran = [value for batch in bench.graph.batches for value in batch]
            assert not {v for mine, fate, _ in tasks if fate != "stay" for v in mine if v > 0} & set(ran)

    asyncio.run(play())
