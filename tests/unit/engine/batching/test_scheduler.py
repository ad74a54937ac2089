"""How batches are composed, without threads or an event loop, under a fake clock."""

import time

import pytest

from stylewire.server.engine_api.graphs import Dispatch
from support.scheduler_harness import NEVER, SchedulerHarness, learn_line, members, spans


def test_small_request_is_in_the_next_batch_behind_a_large_one():
    """A row that arrives behind 64 others is in the very next batch that is composed."""
    harness = SchedulerHarness()
    running = harness.occupy()
    large = harness.push(64)
    small = harness.push()
    harness.finish(running)
    batch = harness.scheduler.take()

    assert [large, small] == members(batch)
    assert [(0, 3), (0, 1)] == spans(batch)


def test_small_request_is_in_the_next_batch_behind_a_complete_one():
    """A batch that was taken early delays a row behind 64 others by that batch only."""
    harness = SchedulerHarness()
    running = harness.occupy()
    large, *others = harness.push(64), harness.push(), harness.push(), harness.push()
    complete = harness.scheduler.take()
    small = harness.push()
    harness.finish(running)
    harness.scheduler.start(complete)

    assert [large, *others] == members(complete)
    assert harness.scheduler.take() is None
    harness.finish(complete)
    assert [large, small] == members(harness.scheduler.take())


def test_small_request_waits_for_one_turn_where_one_row_is_a_batch():
    """Behind a large request whose every row is a batch, a row comes after one of its turns, not after two."""
    harness = SchedulerHarness(max_batch_size=1)
    running = harness.occupy()
    large = harness.push(64)
    assert harness.scheduler.take() is None
    small = harness.push()
    harness.finish(running)
    first = harness.start()
    harness.finish(first)

    assert [large] == members(first)
    assert [small] == members(harness.scheduler.take())


def test_large_requests_take_turns_with_each_other():
    """Of three large requests each has a row before any has a second one, batch after batch."""
    harness = SchedulerHarness(max_batch_size=2)
    first, second, third = (harness.push(3) for _ in range(3))
    turns = []
    while harness.scheduler.requests:
        batch = harness.start()
        turns += members(batch)
        harness.finish(batch)

    assert [first, second, third] * 3 == turns


def test_rows_are_split_between_free_instances():
    """With two instances free, half of what waits goes to each of them."""
    harness = SchedulerHarness(max_batch_size=8, instances=2)
    entry = harness.push(6)
    batches = [harness.scheduler.take(), harness.scheduler.take()]

    assert [[(0, 3)], [(3, 6)]] == [spans(batch) for batch in batches]
    assert [Dispatch.SPLIT, Dispatch.IDLE] == [batch.dispatch for batch in batches]
    assert 0 == entry.left


def test_one_free_instance_gets_all_that_fits():
    """Beside a running batch there is nothing to split with."""
    harness = SchedulerHarness(max_batch_size=8, instances=2)
    harness.occupy()
    harness.push(6)

    assert [(0, 6)] == spans(harness.scheduler.take())


@pytest.mark.parametrize(("exclusive_row_seconds", "exclusive"), [(0.04, True), (0.06, False), (None, False)])
def test_exclusive_batch_is_chosen_when_it_is_sooner(exclusive_row_seconds, exclusive):
    """Four rows at once on the whole device run if that takes less than two in each of two instances."""
    harness = SchedulerHarness(row_seconds=0.1, instances=2, exclusive=True)
    if exclusive_row_seconds is not None:
        learn_line(harness.scheduler.exclusive_costs, exclusive_row_seconds)
    harness.push(4)
    batch = harness.scheduler.take()

    assert exclusive == batch.exclusive
    assert (4 if exclusive else 2) == batch.size
    assert (Dispatch.IDLE if exclusive else Dispatch.SPLIT) is batch.dispatch


@pytest.mark.parametrize("busy", ["running", "prepared"])
def test_exclusive_batch_needs_an_idle_device(busy):
    """However fast the whole device is, a batch has it only if no other runs or is about to."""
    harness = SchedulerHarness(row_seconds=0.1, instances=2, exclusive=True)
    harness.push()
    batch = harness.scheduler.take()
    if busy == "running":
        harness.scheduler.start(batch)
    learn_line(harness.scheduler.exclusive_costs, 0.001)
    harness.push(2)

    assert not harness.scheduler.take().exclusive


def test_exclusive_batch_needs_all_rows_to_fit():
    """More rows than fit into one batch keep all instances busy: they run side by side."""
    harness = SchedulerHarness(row_seconds=0.1, instances=2, exclusive=True, max_batch_size=4)
    learn_line(harness.scheduler.exclusive_costs, 0.001)
    harness.push(5)

    assert not harness.scheduler.take().exclusive


def test_exclusive_batch_runs_alone():
    """While a batch has the whole device no other starts, complete or not."""
    harness = SchedulerHarness(row_seconds=0.1, instances=2, exclusive=True, max_batch_size=2)
    learn_line(harness.scheduler.exclusive_costs, 0.001)
    exclusive = harness.occupy(2)
    harness.push()

    assert exclusive.exclusive
    assert harness.scheduler.take() is None
    harness.push()
    assert not harness.scheduler.can_start(harness.scheduler.take())


def test_narrow_batch_teaches_nothing_about_exclusive_ones():
    """What a batch costs in one instance and with the whole device is learned apart."""
    harness = SchedulerHarness(row_seconds=0.1, instances=2, exclusive=True)
    learn_line(harness.scheduler.exclusive_costs, 0.04)
    exclusive = harness.occupy(4)
    harness.finish(exclusive, 0.08)

    assert exclusive.exclusive
    assert harness.scheduler.costs.predict(4) == pytest.approx(0.4)
    assert 0.08 < harness.scheduler.exclusive_costs.predict(4) < 0.16


@pytest.mark.parametrize(("seconds", "size"), [(0.25, 2), (0.79, 7), (0.05, 1), (NEVER, 8)])
def test_batch_takes_no_longer_than_its_limit(seconds, size):
    """A batch has as many rows as are through within max_batch_seconds; one row always runs."""
    harness = SchedulerHarness(row_seconds=0.1, max_batch_size=8, max_batch_seconds=seconds)
    harness.push(64)

    assert size == harness.scheduler.take().size


def test_batch_is_complete_when_its_members_are_certain():
    """While all instances are busy the next batch is taken once as many requests wait as it has rows, and only one."""
    harness = SchedulerHarness(max_batch_size=2)
    harness.occupy()
    large = harness.push(9)

    assert not harness.scheduler.can_take
    small = harness.push()
    assert [large, small] == members(harness.scheduler.take())
    harness.push()
    assert not harness.scheduler.can_take


def test_batches_do_not_pile_up_before_the_first_starts():
    """At most one batch is ahead of the instances, also if others are taken while the first has yet to start."""
    harness = SchedulerHarness(max_batch_size=2)
    for _ in range(6):
        harness.push()
    first, *ahead = [batch for _ in range(3) if (batch := harness.scheduler.take())]
    harness.scheduler.start(first)

    assert len(ahead) <= 1


def test_complete_batch_is_not_overtaken():
    """When an instance gets free it is for the batch that was taken early: no other is taken before that one starts."""
    harness = SchedulerHarness(max_batch_size=2)
    running = harness.occupy()
    for _ in range(4):
        harness.push()
    complete = harness.scheduler.take()
    harness.finish(running)

    assert harness.scheduler.can_start(complete)
    assert harness.scheduler.take() is None


def test_expired_requests_do_not_seal_a_batch():
    """Requests that are dead leave room in a batch, so it is not taken early because of them."""
    harness = SchedulerHarness(max_batch_size=2)
    harness.occupy()
    harness.push(has=1.0)
    harness.push()
    harness.clock.now += 2

    assert harness.scheduler.take() is None


def test_shape_of_one_who_left_seals_no_batch():
    """Whether a batch is certain depends on the first who still waits, not on one who has left."""
    harness = SchedulerHarness(max_batch_size=2)
    running = harness.occupy()
    first, second, gone, *_ = (harness.push(width=width) for width in (1, 1, 3, 2, 3, 3))
    harness.leave(gone)
    harness.finish(running)

    assert [first, second] == members(harness.start())
    assert harness.scheduler.take() is None  # the next one has another shape than the two behind it


def test_dead_request_is_left_out_at_the_start():
    """Who leaves or expires between composition and start does not run; the others do."""
    harness = SchedulerHarness()
    gone, late, stays = harness.push(), harness.push(has=1.0), harness.push()
    batch = harness.scheduler.take()
    gone.future.finish()
    harness.clock.now += 2

    assert [gone, late] == harness.scheduler.start(batch)
    assert [stays] == members(batch)


def test_longest_run_is_the_oldest_batch():
    """Of the batches that run, the one that began first says for how long."""
    harness = SchedulerHarness(instances=2)
    first = harness.occupy()
    harness.clock.now += 3
    harness.occupy()
    harness.clock.now += 2

    assert 5 == harness.scheduler.longest_run_seconds
    harness.finish(first)
    assert 2 == harness.scheduler.longest_run_seconds


def test_backlog_is_what_runs_and_what_waits():
    """The backlog counts the rest of the running batches and every row that waits, divided by the instances."""
    harness = SchedulerHarness(row_seconds=0.1, instances=2)
    harness.occupy()
    harness.occupy()
    harness.push(6)
    harness.clock.now += 0.05

    assert harness.scheduler.backlog_seconds == pytest.approx((2 * 0.05 + 0.6) / 2)


def test_discarding_everybody_empties_the_queue():
    """All who wait are returned, in order; what runs goes on."""
    harness = SchedulerHarness(max_batch_size=2)
    running = harness.occupy()
    waiting = [harness.push(3) for _ in range(3)]

    assert waiting == harness.scheduler.remove_all()
    assert (0, 0) == (harness.scheduler.requests, harness.scheduler.rows)
    harness.finish(running)
    assert harness.scheduler.take() is None


def test_long_queue_costs_no_more_a_request():
    """Of 20,000 waiting requests half leave, and the rest runs: work is not quadratic."""
    harness, started = SchedulerHarness(max_batch_size=8), time.process_time()
    running, prepared, entries, batches = harness.occupy(), None, [], 0
    for _ in range(20_000):
        entries.append(harness.push(has=NEVER))
        prepared = prepared or harness.scheduler.take()
    for entry in entries[9:10_009]:
        harness.leave(entry)
        assert not harness.scheduler.can_take
    while running:
        harness.finish(running)
        running = prepared or harness.scheduler.take()
        if running:
            harness.scheduler.start(running)
            prepared = harness.scheduler.take()
            batches += 1

    assert 10_000 / 8 == batches
    assert time.process_time() - started < 2
