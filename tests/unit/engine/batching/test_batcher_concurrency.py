"""Batches beside each other, taken early, and that hang; against a fake graph and a fake clock."""

import asyncio
from collections import Counter

import pytest

from stylewire.errors import BackendUnavailableError, DeadlineError
from stylewire.server.engine.batching import batcher as batcher_module
from stylewire.server.engine.batching.batcher import Batcher
from stylewire.server.engine_api.graphs import BatchError, Dispatch
from support.batcher_harness import Bench, bench_test, values


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
