"""Batches beside each other, taken early, and that hang; against a fake graph and a fake clock."""

import asyncio
from collections import Counter

import pytest

from stylewire.errors import BackendUnavailableError, DeadlineError
from stylewire.server.engine.batching import batcher as batcher_module
from stylewire.server.engine.batching.batcher import Batcher
from stylewire.server.engine_api.graphs import BatchError, Dispatch
from support.batcher_harness import BatcherHarness, harness_test, values


@harness_test(instances=2)
async def test_batches_run_side_by_side(harness):
    """Two requests that come one after the other run at once in two instances."""
    first = await harness.occupy()
    second = harness.submit(1)
    await harness.begun(2)
    harness.graph.open_gate()

    assert [[0], [2]] == [values(await first), values(await second)]
    assert 2 == harness.graph.most_at_once


@harness_test(instances=2, max_batch_size=2)
async def test_rows_keep_their_order_when_batches_end_in_any(harness):
    """A request that two instances share has its rows in order although the later ones are through first."""
    harness.graph.close_gate()
    task = harness.submit(1, 2, 3, 4)
    await harness.begun(2)
    harness.graph.release(harness.graph.batches.index([3, 4]))
    await harness.until(lambda: harness.observer.batches)

    assert not task.done()
    harness.graph.open_gate()
    assert [2, 4, 6, 8] == values(await task)
    assert {Dispatch.FULL, Dispatch.IDLE} == set(harness.observer.dispatches)


@harness_test(instances=2)
async def test_failing_batch_leaves_the_other_instance_alone(harness):
    """While one batch fails, the one beside it goes on and its caller is answered."""
    harness.graph.poison = 0
    failing = await harness.occupy()
    fine = harness.submit(1)
    await harness.begun(2)
    harness.graph.release(0)

    with pytest.raises(BatchError):
        await failing
    assert not fine.done()
    harness.graph.open_gate()
    assert [2] == values(await fine)


@harness_test(instances=2, exclusive=True)
async def test_exclusive_batch_is_run_exclusive(harness):
    """The graph is told to use the whole device when the rules choose it."""
    harness.scheduler.costs.learn(1, 1.0)
    harness.scheduler.exclusive_costs.learn(1, 0.1)

    assert [2, 4] == values(await harness.submit(1, 2))
    assert [True] == harness.graph.exclusive


@harness_test(max_batch_size=2)
async def test_batch_taken_early_runs_next(harness):
    """Requests are answered in the order in which they came, also those whose batch was taken early."""
    first = await harness.occupy()
    early = await harness.stage(1, 2)
    late = [harness.submit(3), harness.submit(4)]
    await harness.settle()
    harness.graph.open_gate()
    await asyncio.gather(first, *early, *late)

    assert [[0], [1, 2], [3, 4]] == harness.graph.batches


@harness_test()
async def test_batch_taken_early_runs_without_those_who_leave(harness):
    """Who leaves or expires while the batch waits for its instance does not run; the others get their own rows."""
    first = await harness.occupy()
    gone, late = harness.submit(1), harness.submit(2, deadline=harness.clock.now + 1)
    stay = await harness.stage(3, 4)
    gone.cancel()
    await harness.settle()
    harness.clock.now += 2
    harness.graph.open_gate()

    assert [[6], [8]] == [values(await task) for task in stay]
    with pytest.raises(DeadlineError):
        await late
    await first
    assert [[0], [3, 4]] == harness.graph.batches
    assert Counter(["cancelled", "expired"]) == Counter(harness.observer.refusals)


@harness_test(max_batch_size=2)
async def test_batch_that_everybody_leaves_does_not_run(harness):
    """A batch whose members all leave while it waits for the instance is skipped, and the next one has it."""
    first = await harness.occupy()
    tasks = await harness.stage(1, 2)
    for task in tasks:
        task.cancel()
    await harness.settle()
    harness.graph.open_gate()
    await first

    assert [6] == values(await harness.submit(3))
    assert [[0], [3]] == harness.graph.batches
    assert [1, 1] == harness.observer.batches


@harness_test()
async def test_batch_that_cannot_be_stacked_gives_its_instance_back(harness):
    """When there is no memory to stack a batch, its callers get an error and the next batch runs."""

    def stack(shares):
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batcher_module, "stack", stack)
        with pytest.raises(BatchError):
            await harness.submit(1)

    assert [4] == values(await asyncio.wait_for(harness.submit(2), 5))


@harness_test()
async def test_hanging_batch_turns_requests_away(harness):
    """While a batch hangs, those that wait and those that come get an error; a graph beside it answers."""
    first = await harness.occupy()
    waiting = harness.submit(1)
    await harness.settle()
    harness.clock.now += 31

    assert not harness.batcher.check_hang(60)
    assert harness.batcher.check_hang(30)
    for task in (waiting, harness.submit(2)):
        with pytest.raises(BackendUnavailableError, match="fake hangs"):
            await task
    assert ["failed", "failed"] == harness.observer.refusals
    async with BatcherHarness() as beside:
        assert [6] == values(await beside.submit(3))
    assert not first.done()


@harness_test()
async def test_batch_that_comes_back_ends_the_hang(harness):
    """When the batch that hung is through, its caller is answered and requests are served again."""
    first = await harness.occupy()
    harness.clock.now += 31
    assert harness.batcher.check_hang(30)
    harness.graph.open_gate()

    assert [0] == values(await first)
    assert not harness.batcher.check_hang(30)
    assert [2] == values(await harness.submit(1))


@harness_test(max_batch_size=2)
async def test_hang_is_told_to_a_batch_taken_early(harness):
    """Those whose batch waits for the instance of one that hangs get the error too, like all that wait."""
    await harness.occupy()
    early = await harness.stage(1, 2)
    harness.clock.now += 31
    harness.batcher.check_hang(30)
    await harness.settle()

    assert [True, True] == [task.done() for task in early]
    errors = await asyncio.gather(*early, return_exceptions=True)
    assert [BackendUnavailableError] * 2 == [type(error) for error in errors]
    harness.graph.open_gate()
    await harness.batcher.close()
    assert [[0]] == harness.graph.batches


@harness_test()
async def test_closing_does_not_block_the_loop_when_a_batch_hangs(harness):
    """Whoever closes a graph that hangs can stop waiting for it."""
    first = await harness.occupy()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(harness.batcher.close(), 0.05)
    harness.graph.open_gate()
    assert [0] == values(await first)


@harness_test(instances=2, max_batch_size=2)
async def test_closing_ends_the_threads(harness):
    """Close finishes what runs, what is taken and what waits; afterwards no thread is left."""
    harness.graph.close_gate()
    tasks = [harness.submit(10 * n, 10 * n + 1, 10 * n + 2) for n in range(6)]
    await harness.begun(2)
    closing = asyncio.ensure_future(harness.batcher.close())
    await harness.settle()
    harness.graph.open_gate()
    await closing
    for thread in harness.threads:
        thread.join(30)

    assert [[20 * n, 20 * n + 2, 20 * n + 4] for n in range(6)] == [values(await task) for task in tasks]
    assert not any(thread.is_alive() for thread in harness.threads)
    assert 2 + Batcher._SPARE_THREADS == len(harness.threads)
