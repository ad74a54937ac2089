"""The batcher, against a fake graph and a fake clock."""

import asyncio
import contextlib
import threading
from collections import Counter
from typing import Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylewire.errors import BackendUnavailableError, DeadlineError, DrainingError, OverloadedError
from stylewire.server.engine.batching import batcher as batcher_module
from stylewire.server.engine.batching.batcher import Batcher
from stylewire.server.engine.batching.scheduler import BatchLimits
from stylewire.server.engine_api.graphs import BatchError, Dispatch
from support.fakes import FakeClock, FakeGraph, FakeObserver

NEVER = 1e9
"""Seconds that do not pass in a test."""


def rows(*values):
    return {"x": np.array(values, np.float32).reshape(-1, 1)}


class Bench:
    """A batcher with its fakes, for one ``async with``."""

    def __init__(self, **limits) -> None:
        self.graph, self.observer, self.clock = FakeGraph(), FakeObserver(), FakeClock()
        usual = {"max_batch_size": 4, "max_batch_seconds": NEVER, "max_queue_seconds": 10.0}
        self._limits = BatchLimits(**(usual | limits))

    async def __aenter__(self) -> Self:
        before = set(threading.enumerate())
        self.batcher = Batcher(
            name="fake", run=self.graph, observer=self.observer, limits=self._limits, clock=self.clock
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
        """Keep a slot busy with a batch of one row, 0, until its gate opens; so are the next ones."""
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
        """Have a batch of one row of each request taken early, which waits for the slot."""
        tasks = [self.submit(value, **options) for value in values]
        await self.until(lambda: self.scheduler._staged)
        return tasks


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
    bench.scheduler.costs.learn(1, 2.0)

    with pytest.raises(DeadlineError):
        await bench.submit(1, deadline=bench.clock.now + 1)
    assert ["deadline"] == bench.observer.refusals
    assert [] == bench.graph.batches


@bench_test()
async def test_check_refuses_what_submit_would(bench):
    """A request can be refused before its rows are made; it is counted once, and what passes leaves no trace."""
    bench.scheduler.costs.learn(1, 2.0)

    with pytest.raises(DeadlineError):
        bench.batcher.check(1, bench.clock.now + 1)
    bench.batcher.check(1, bench.clock.now + 3)
    bench.batcher.check(1)
    assert ["deadline"] == bench.observer.refusals
    assert 0 == bench.scheduler.requests


@bench_test(max_queue_seconds=3.0)
async def test_backlog_over_the_limit_is_refused_with_a_hint(bench):
    """When the predicted backlog is too long the next request learns when to come back."""
    for size in (1, 2, 4):
        bench.scheduler.costs.learn(size, float(size))
    first = await bench.occupy()
    waiting = [bench.submit(1, 2, 3, 4)]
    await bench.settle()

    with pytest.raises(OverloadedError) as caught:
        await bench.submit(5, 6, 7, 8)
    assert caught.value.retry_after_seconds == pytest.approx(3.5)
    assert ["overloaded"] == bench.observer.refusals
    bench.graph.open_gate()
    await asyncio.gather(first, *waiting)


@bench_test(max_queue_seconds=0.5)
async def test_idle_batcher_takes_a_request_of_any_length(bench):
    """An empty queue refuses nothing, however much a request costs."""
    bench.scheduler.costs.learn(1, 100.0)

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
    bench.batcher._run = lambda inputs, outputs, *, wide: {"y": inputs["x"][:1]}

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


@bench_test(slots=2)
async def test_batches_run_side_by_side(bench):
    """Two requests that come one after the other run at once in two slots."""
    first = await bench.occupy()
    second = bench.submit(1)
    await bench.begun(2)
    bench.graph.open_gate()

    assert [[0], [2]] == [values(await first), values(await second)]
    assert 2 == bench.graph.most_at_once


@bench_test(slots=2, max_batch_size=2)
async def test_rows_keep_their_order_when_batches_end_in_any(bench):
    """A request that two slots share has its rows in order although the later ones are through first."""
    bench.graph.close_gate()
    task = bench.submit(1, 2, 3, 4)
    await bench.begun(2)
    bench.graph.release(bench.graph.batches.index([3, 4]))
    await bench.until(lambda: bench.observer.batches)

    assert not task.done()
    bench.graph.open_gate()
    assert [2, 4, 6, 8] == values(await task)
    assert {Dispatch.FULL, Dispatch.IDLE} == set(bench.observer.dispatches)


@bench_test(slots=2)
async def test_failing_batch_leaves_the_other_slot_alone(bench):
    """While one batch fails, the one beside it goes on and its caller is answered."""
    bench.graph.poison = 0
    failing = await bench.occupy()
    fine = bench.submit(1)
    await bench.begun(2)
    bench.graph.release(0)

    with pytest.raises(BatchError):
        await failing
    assert not fine.done()
    bench.graph.open_gate()
    assert [2] == values(await fine)


@bench_test(slots=2, wide=True)
async def test_wide_batch_is_run_wide(bench):
    """The graph is told to use the whole device when the rules choose it."""
    bench.scheduler.costs.learn(1, 1.0)
    bench.scheduler.wide_costs.learn(1, 0.1)

    assert [2, 4] == values(await bench.submit(1, 2))
    assert [True] == bench.graph.wide


@bench_test(max_batch_size=2)
async def test_batch_taken_early_runs_next(bench):
    """Requests are answered in the order in which they came, also those whose batch was taken early."""
    first = await bench.occupy()
    early = await bench.stage(1, 2)
    late = [bench.submit(3), bench.submit(4)]
    await bench.settle()
    bench.graph.open_gate()
    await asyncio.gather(first, *early, *late)

    assert [[0], [1, 2], [3, 4]] == bench.graph.batches


@bench_test()
async def test_batch_taken_early_runs_without_those_who_leave(bench):
    """Who leaves or expires while the batch waits for its slot does not run; the others get their own rows."""
    first = await bench.occupy()
    gone, late = bench.submit(1), bench.submit(2, deadline=bench.clock.now + 1)
    stay = await bench.stage(3, 4)
    gone.cancel()
    await bench.settle()
    bench.clock.now += 2
    bench.graph.open_gate()

    assert [[6], [8]] == [values(await task) for task in stay]
    with pytest.raises(DeadlineError):
        await late
    await first
    assert [[0], [3, 4]] == bench.graph.batches
    assert Counter(["cancelled", "expired"]) == Counter(bench.observer.refusals)


@bench_test(max_batch_size=2)
async def test_batch_that_everybody_leaves_does_not_run(bench):
    """A batch whose members all leave while it waits for the slot is skipped, and the slot is free for the next."""
    first = await bench.occupy()
    tasks = await bench.stage(1, 2)
    for task in tasks:
        task.cancel()
    await bench.settle()
    bench.graph.open_gate()
    await first

    assert [6] == values(await bench.submit(3))
    assert [[0], [3]] == bench.graph.batches
    assert [1, 1] == bench.observer.batches


@bench_test()
async def test_batch_that_cannot_be_stacked_gives_its_slot_back(bench):
    """When there is no memory to stack a batch, its callers get an error and the next batch runs."""

    def stack(shares):
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batcher_module, "stack", stack)
        with pytest.raises(BatchError):
            await bench.submit(1)

    assert [4] == values(await asyncio.wait_for(bench.submit(2), 5))


@bench_test()
async def test_each_caller_has_an_error_of_its_own(bench):
    """An error that tells callers what to do keeps its class and what it says, and is a copy for each of them."""

    def run(inputs, outputs, *, wide):
        bench.graph(inputs, outputs, wide=wide)
        raise BackendUnavailableError("gone", retry_after_seconds=1.5)

    bench.batcher._run = run
    first = await bench.occupy()
    others = [bench.submit(1), bench.submit(2)]
    await bench.settle()
    bench.graph.open_gate()
    errors = await asyncio.gather(first, *others, return_exceptions=True)

    assert [BackendUnavailableError] * 3 == [type(error) for error in errors]
    assert [("gone", 1.5)] * 3 == [(error.message, error.retry_after_seconds) for error in errors]
    assert 3 == len(set(map(id, errors)))


@bench_test(max_batch_size=2)
async def test_rows_are_converted_in_the_thread_that_has_them(bench):
    """Rows become something else in the thread that ran their batch, and come back in order."""
    threads = []

    def convert(outputs, start):
        threads.append(threading.current_thread().name)
        return [f"picture {value:g}" for value in outputs["y"][:, 0]]

    result = await bench.submit(1, 2, 3, convert=convert)

    assert ["picture 2", "picture 4", "picture 6"] == result.converted
    assert {} == result.outputs
    assert Counter(bench.graph.threads) == Counter(threads)
    assert {thread.name for thread in bench.threads} >= set(threads)


@bench_test()
async def test_error_of_a_conversion_belongs_to_its_request(bench):
    """A conversion that fails fails its caller with that very error; the others of its batch get their rows."""

    def convert(outputs, start):
        raise LookupError("no codec")

    first = await bench.occupy()
    failing, fine = bench.submit(1, convert=convert), bench.submit(2)
    await bench.settle()
    bench.graph.open_gate()
    await first

    with pytest.raises(LookupError, match="no codec"):
        await failing
    assert [4] == values(await fine)
    assert [[0], [1, 2]] == bench.graph.batches
    assert ["failed"] == bench.observer.refusals


@bench_test()
async def test_nothing_is_converted_for_a_caller_that_left(bench):
    """Whoever leaves while the batch runs has nothing converted."""
    bench.graph.close_gate()
    converted = []
    task = bench.submit(1, convert=lambda *given: converted.append(given))
    await bench.begun(1)
    task.cancel()
    await bench.settle()
    bench.graph.open_gate()
    await bench.batcher.close()

    assert [] == converted


@bench_test()
async def test_hanging_batch_turns_requests_away(bench):
    """While a batch hangs, those that wait and those that come get an error; a graph beside it answers."""
    first = await bench.occupy()
    waiting = bench.submit(1)
    await bench.settle()
    bench.clock.now += 31

    assert not bench.batcher.check_hang(60)
    assert bench.batcher.check_hang(30)
    for task in (waiting, bench.submit(2)):
        with pytest.raises(BackendUnavailableError, match="fake hangs"):
            await task
    assert ["failed", "failed"] == bench.observer.refusals
    async with Bench() as beside:
        assert [6] == values(await beside.submit(3))
    assert not first.done()


@bench_test()
async def test_batch_that_comes_back_ends_the_hang(bench):
    """When the batch that hung is through, its caller is answered and requests are served again."""
    first = await bench.occupy()
    bench.clock.now += 31
    assert bench.batcher.check_hang(30)
    bench.graph.open_gate()

    assert [0] == values(await first)
    assert not bench.batcher.check_hang(30)
    assert [2] == values(await bench.submit(1))


@bench_test(max_batch_size=2)
async def test_hang_is_told_to_a_batch_taken_early(bench):
    """Those whose batch waits for the slot of one that hangs get the error too, like all that wait."""
    await bench.occupy()
    early = await bench.stage(1, 2)
    bench.clock.now += 31
    bench.batcher.check_hang(30)
    await bench.settle()

    assert [True, True] == [task.done() for task in early]
    errors = await asyncio.gather(*early, return_exceptions=True)
    assert [BackendUnavailableError] * 2 == [type(error) for error in errors]
    bench.graph.open_gate()
    await bench.batcher.close()
    assert [[0]] == bench.graph.batches


@bench_test()
async def test_closing_does_not_block_the_loop_when_a_batch_hangs(bench):
    """Whoever closes a graph that hangs can stop waiting for it."""
    first = await bench.occupy()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.batcher.close(), 0.05)
    bench.graph.open_gate()
    assert [0] == values(await first)


@bench_test(slots=2, max_batch_size=2)
async def test_closing_ends_the_threads(bench):
    """Close finishes what runs, what is taken and what waits; afterwards no thread is left."""
    bench.graph.close_gate()
    tasks = [bench.submit(10 * n, 10 * n + 1, 10 * n + 2) for n in range(6)]
    await bench.begun(2)
    closing = asyncio.ensure_future(bench.batcher.close())
    await bench.settle()
    bench.graph.open_gate()
    await closing
    for thread in bench.threads:
        thread.join(30)

    assert [[20 * n, 20 * n + 2, 20 * n + 4] for n in range(6)] == [values(await task) for task in tasks]
    assert not any(thread.is_alive() for thread in bench.threads)
    assert 2 + Batcher._SPARE_THREADS == len(bench.threads)


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


_ACTIONS = st.one_of(
    st.tuples(
        st.just("submit"),
        st.integers(1, 9),
        st.booleans(),
        st.none() | st.sampled_from([1.0, 4.0]),
        st.sampled_from([False, False, False, True]),
    ),
    st.tuples(st.just("burst"), st.integers(2, 12)),
    st.tuples(st.just("leave"), st.integers(0, 99)),
    st.tuples(st.just("pass"), st.sampled_from([0.01, 0.5, 2.0])),
    st.tuples(st.just("release"), st.integers(0, 99)),
    st.tuples(st.just("hold"), st.booleans()),
)


class Crowd:
    """Callers of a batcher that remember what they asked for."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.asked: list[tuple[list[float], bool, bool, asyncio.Task]] = []  # rows, converted, has deadline, answer

    def submit(self, count, converted=False, has=None, poisoned=False) -> None:
        mine = [100.0 * (len(self.asked) + 1) + row for row in range(count)]
        if poisoned:
            mine[-1] = -1.0
        deadline = None if has is None else self.bench.clock.now + has
        convert = (lambda outputs, start: outputs["y"][:, 0].tolist()) if converted else None
        task = self.bench.submit(*mine, deadline=deadline, convert=convert)
        self.asked.append((mine, converted, has is not None, task))

    def burst(self, count) -> None:
        for _ in range(count):
            self.submit(1)

    def leave(self, pick) -> None:
        if waiting := [task for *_, task in self.asked if not task.done()]:
            waiting[pick % len(waiting)].cancel()

    def do(self, what, *how) -> None:
        graph = self.bench.graph
        match what:
            case "pass":
                self.bench.clock.now += how[0]
            case "release":
                if graph.batches:
                    graph.release(how[0] % len(graph.batches))
            case "hold":
                graph.close_gate() if how[0] else graph.open_gate()
            case _:
                getattr(self, what)(*how)

    async def check(self) -> None:
        """Everybody has exactly their rows, or an error that they may have."""
        for mine, converted, timed, task in self.asked:
            (answer,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(answer, BaseException):
                assert timed or not isinstance(answer, DeadlineError)
                assert isinstance(answer, BatchError | DeadlineError | OverloadedError | asyncio.CancelledError)
            else:
                assert -1 not in mine
                assert [2 * value for value in mine] == (answer.converted if converted else values(answer))


@settings(max_examples=80, deadline=None)
@given(st.lists(_ACTIONS, min_size=1, max_size=25), st.integers(1, 4), st.integers(1, 3))
def test_everybody_is_answered_once_with_their_own_rows(actions, max_batch_size, slots):
    """Whatever comes, leaves, expires, fails or takes long, in whatever slot: everybody has one answer, their own."""

    async def play() -> None:
        async with Bench(max_batch_size=max_batch_size, slots=slots) as bench:
            bench.graph.poison = -1.0
            bench.graph.close_gate()
            crowd = Crowd(bench)
            for action in actions:
                crowd.do(*action)
                await bench.settle()
            bench.graph.open_gate()
            await asyncio.wait_for(crowd.check(), 30)
            await bench.batcher.close()
            ran = Counter(value for batch in bench.graph.batches for value in batch if value > 0)

            assert len(crowd.asked) == len(bench.observer.entries) + len(bench.observer.refusals)
            assert {1} >= set(ran.values()), "a row ran twice"
            assert (0, 0) == (bench.scheduler.rows, bench.scheduler.requests)
            assert bench.graph.most_at_once <= slots
            assert all(size <= max_batch_size for size in bench.observer.batches)

    asyncio.run(play())
