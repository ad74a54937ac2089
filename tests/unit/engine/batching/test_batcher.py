"""The batcher, against a fake graph and a fake clock."""

import asyncio
import threading
from collections import Counter

import numpy as np
import pytest

from stylewire.errors import BackendUnavailableError, DeadlineError, DrainingError, OverloadedError
from stylewire.server.engine_api.graphs import BatchError
from support.batcher_harness import harness_test, values


@harness_test()
async def test_lone_request_runs_at_once(harness):
    """A request on an idle batcher runs alone and gets its own rows."""
    result = await harness.submit(1, 2)

    assert [2, 4] == values(result)
    assert [[1, 2]] == harness.graph.batches
    assert 2 == result.batch_size


@harness_test()
async def test_waiting_requests_share_a_batch(harness):
    """What waits while a batch runs makes up the next one, and everybody gets their own rows."""
    first = await harness.occupy()
    others = [harness.submit(value) for value in (1, 2, 3)]
    await harness.settle()
    harness.graph.open_gate()

    assert [[0], [2], [4], [6]] == [values(await task) for task in (first, *others)]
    assert [[0], [1, 2, 3]] == harness.graph.batches


@harness_test(max_batch_size=4)
async def test_batches_count_rows_and_keep_their_order(harness):
    """A request larger than a batch runs in several, in order."""
    result = await harness.submit(*range(10))

    assert [2.0 * value for value in range(10)] == values(result)
    assert [4, 4, 2] == harness.observer.batches
    assert 4 == result.batch_size


@harness_test(max_batch_size=4)
async def test_large_request_does_not_starve_a_small_one(harness):
    """A row that arrives behind 64 others is in the very next batch."""
    first = await harness.occupy()
    large = harness.submit(*range(100, 164))
    await harness.settle()
    small = harness.submit(7)
    await harness.settle()
    harness.graph.open_gate()
    await asyncio.gather(first, large, small)

    assert 7 in harness.graph.batches[1]


@harness_test(max_batch_size=4)
async def test_many_requests_take_turns(harness):
    """With more requests than rows in a batch, those left out come first into the next."""
    first = await harness.occupy()
    tasks = [harness.submit(10 * n, 10 * n + 1) for n in range(1, 7)]
    await harness.settle()
    harness.graph.open_gate()
    await asyncio.gather(first, *tasks)

    assert [[0], [10, 20, 30, 40], [50, 60, 11, 21], [31, 41, 51, 61]] == harness.graph.batches


@harness_test()
async def test_cancelled_request_never_runs(harness):
    """A request whose caller leaves is dropped and counted; its neighbors are answered."""
    first = await harness.occupy()
    gone, stays = harness.submit(1), harness.submit(2)
    await harness.settle()
    gone.cancel()
    await harness.settle()
    harness.graph.open_gate()

    assert [4] == values(await stays)
    assert [[0], [2]] == harness.graph.batches
    assert ["cancelled"] == harness.observer.refusals
    await first


@harness_test()
async def test_caller_that_leaves_a_running_batch_disturbs_nobody(harness):
    """Cancelling a request in the batch that runs is counted and leaves the others their rows."""
    first = await harness.occupy()
    stays = harness.submit(2)
    await harness.settle()
    first.cancel()
    harness.graph.open_gate()

    assert [4] == values(await stays)
    assert ["cancelled"] == harness.observer.refusals


@harness_test()
async def test_expired_request_never_runs(harness):
    """A request whose deadline passes in the queue gets DeadlineError and is not executed."""
    first = await harness.occupy()
    late = harness.submit(1, deadline=harness.clock.now + 5)
    await harness.settle()
    harness.clock.now += 6
    harness.graph.open_gate()

    with pytest.raises(DeadlineError):
        await late
    await first
    assert [[0]] == harness.graph.batches
    assert ["expired"] == harness.observer.refusals


@harness_test()
async def test_deadline_that_cannot_be_met_is_refused_at_the_door(harness):
    """With learned costs a hopeless request is refused before it waits."""
    harness.scheduler.costs.learn(1, 2.0)

    with pytest.raises(DeadlineError):
        await harness.submit(1, deadline=harness.clock.now + 1)
    assert ["deadline"] == harness.observer.refusals
    assert [] == harness.graph.batches


@harness_test()
async def test_check_refuses_what_submit_would(harness):
    """A request can be refused before its rows are made; it is counted once, and what passes leaves no trace."""
    harness.scheduler.costs.learn(1, 2.0)

    with pytest.raises(DeadlineError):
        harness.batcher.check(1, harness.clock.now + 1)
    harness.batcher.check(1, harness.clock.now + 3)
    harness.batcher.check(1)
    assert ["deadline"] == harness.observer.refusals
    assert 0 == harness.scheduler.requests


@harness_test(max_queue_seconds=3.0)
async def test_backlog_over_the_limit_is_refused_with_a_hint(harness):
    """When the predicted backlog is too long the next request learns when to come back."""
    for size in (1, 2, 4):
        harness.scheduler.costs.learn(size, float(size))
    first = await harness.occupy()
    waiting = [harness.submit(1, 2, 3, 4)]
    await harness.settle()

    with pytest.raises(OverloadedError) as caught:
        await harness.submit(5, 6, 7, 8)
    assert caught.value.retry_after_seconds == pytest.approx(3.5)
    assert ["overloaded"] == harness.observer.refusals
    harness.graph.open_gate()
    await asyncio.gather(first, *waiting)


@harness_test(max_queue_seconds=0.5)
async def test_idle_batcher_takes_a_request_of_any_length(harness):
    """An empty queue refuses nothing, however much a request costs."""
    harness.scheduler.costs.learn(1, 100.0)

    assert [2] == values(await harness.submit(1))


@harness_test()
async def test_failing_batch_fails_only_itself(harness):
    """Callers of the failed batch get an error with its cause; the next batch runs."""
    harness.graph.poison = 13
    first = await harness.occupy()
    poisoned, neighbor = harness.submit(13), harness.submit(1)
    await harness.settle()
    harness.graph.open_gate()
    await first

    errors = await asyncio.gather(poisoned, neighbor, return_exceptions=True)
    assert [BatchError] * 2 == [type(error) for error in errors]
    assert errors[0] is not errors[1]
    assert isinstance(errors[0].__cause__, ArithmeticError)
    assert [4] == values(await harness.submit(2))


@harness_test(max_batch_size=2)
async def test_rows_left_of_a_failed_request_do_not_run(harness):
    """When one batch of a large request fails, the rest of it is dropped and counted once."""
    harness.graph.poison = 1

    with pytest.raises(BatchError):
        await harness.submit(1, 2, 3, 4, 5, 6)
    await harness.submit(9)
    assert [[1, 2], [9]] == harness.graph.batches
    assert ["failed"] == harness.observer.refusals


@harness_test()
async def test_wrong_row_count_from_a_graph_is_an_error(harness):
    """A graph that answers with too few rows fails its batch; nobody gets another's rows."""
    harness.instead = lambda inputs, outputs, *, exclusive: {"y": inputs["x"][:1]}

    with pytest.raises(BatchError):
        await harness.submit(1, 2)


@harness_test()
async def test_shapes_never_mix(harness):
    """Requests with rows of different shapes run in different batches."""
    first = await harness.occupy()
    exclusive = asyncio.ensure_future(harness.batcher.submit({"x": np.ones((1, 3), np.float32)}, ("y",)))
    narrow = harness.submit(5)
    await harness.settle()
    harness.graph.open_gate()
    await asyncio.gather(first, exclusive, narrow)

    assert [[0], [1], [5]] == harness.graph.batches
    assert (1, 3) == exclusive.result().outputs["y"].shape


@harness_test()
async def test_closing_finishes_what_waits_and_refuses_what_comes(harness):
    """Close answers the waiting requests; a later one is told that the server stops."""
    first = await harness.occupy()
    waiting = harness.submit(3)
    await harness.settle()
    closing = asyncio.ensure_future(harness.batcher.close())
    await harness.settle()

    with pytest.raises(DrainingError):
        await harness.submit(4)
    harness.graph.open_gate()
    await closing
    assert [6] == values(await waiting)
    await first


@harness_test()
async def test_each_caller_has_an_error_of_its_own(harness):
    """An error that tells callers what to do keeps its class and what it says, and is a copy for each of them."""

    def run(inputs, outputs, *, exclusive):
        harness.graph(inputs, outputs, exclusive=exclusive)
        raise BackendUnavailableError("gone", retry_after_seconds=1.5)

    harness.instead = run
    first = await harness.occupy()
    others = [harness.submit(1), harness.submit(2)]
    await harness.settle()
    harness.graph.open_gate()
    errors = await asyncio.gather(first, *others, return_exceptions=True)

    assert [BackendUnavailableError] * 3 == [type(error) for error in errors]
    assert [("gone", 1.5)] * 3 == [(error.message, error.retry_after_seconds) for error in errors]
    assert 3 == len(set(map(id, errors)))


@harness_test(max_batch_size=2)
async def test_rows_are_converted_in_the_thread_that_has_them(harness):
    """Rows become something else in the thread that ran their batch, and come back in order."""
    threads = []

    def convert(outputs, start):
        threads.append(threading.current_thread().name)
        return [f"picture {value:g}" for value in outputs["y"][:, 0]]

    result = await harness.submit(1, 2, 3, convert=convert)

    assert ["picture 2", "picture 4", "picture 6"] == result.converted
    assert {} == result.outputs
    assert Counter(harness.graph.threads) == Counter(threads)
    assert {thread.name for thread in harness.threads} >= set(threads)


@harness_test()
async def test_error_of_a_conversion_belongs_to_its_request(harness):
    """A conversion that fails fails its caller with that very error; the others of its batch get their rows."""

    def convert(outputs, start):
        raise LookupError("no codec")

    first = await harness.occupy()
    failing, fine = harness.submit(1, convert=convert), harness.submit(2)
    await harness.settle()
    harness.graph.open_gate()
    await first

    with pytest.raises(LookupError, match="no codec"):
        await failing
    assert [4] == values(await fine)
    assert [[0], [1, 2]] == harness.graph.batches
    assert ["failed"] == harness.observer.refusals


@harness_test()
async def test_nothing_is_converted_for_a_caller_that_left(harness):
    """Whoever leaves while the batch runs has nothing converted."""
    harness.graph.close_gate()
    converted = []
    task = harness.submit(1, convert=lambda *given: converted.append(given))
    await harness.begun(1)
    task.cancel()
    await harness.settle()
    harness.graph.open_gate()
    await harness.batcher.close()

    assert [] == converted
