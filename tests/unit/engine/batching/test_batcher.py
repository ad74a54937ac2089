"""The batcher, against a fake graph and a fake clock."""

import asyncio
import threading
from collections import Counter

import numpy as np
import pytest

from stylewire.errors import BackendUnavailableError, DeadlineError, DrainingError, OverloadedError
from stylewire.server.engine_api.graphs import BatchError
from support.batcher_harness import bench_test, values


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
