"""How batches are composed, without threads or an event loop, under a fake clock."""

import time

import pytest

from stylewire.server.engine_api.graphs import Dispatch
from support.scheduler_harness import NEVER, Desk, learn_line, members, spans


def test_small_request_is_in_the_next_batch_behind_a_large_one():
    """A row that arrives behind 64 others is in the very next batch that is composed."""
    desk = Desk()
    running = desk.occupy()
    large = desk.push(64)
    small = desk.push()
    desk.finish(running)
    batch = desk.scheduler.take()

    assert [large, small] == members(batch)
    assert [(0, 3), (0, 1)] == spans(batch)


def test_small_request_is_in_the_next_batch_behind_a_sealed_one():
    """A batch that was taken early delays a row behind 64 others by that batch only."""
    desk = Desk()
    running = desk.occupy()
    large, *others = desk.push(64), desk.push(), desk.push(), desk.push()
    sealed = desk.scheduler.take()
    small = desk.push()
    desk.finish(running)
    desk.scheduler.start(sealed)

    assert [large, *others] == members(sealed)
    assert desk.scheduler.take() is None
    desk.finish(sealed)
    assert [large, small] == members(desk.scheduler.take())


def test_small_request_waits_for_one_turn_where_one_row_is_a_batch():
    """Behind a large request whose every row is a batch, a row comes after one of its turns, not after two."""
    desk = Desk(max_batch_size=1)
    running = desk.occupy()
    large = desk.push(64)
    assert desk.scheduler.take() is None
    small = desk.push()
    desk.finish(running)
    first = desk.start()
    desk.finish(first)

    assert [large] == members(first)
    assert [small] == members(desk.scheduler.take())


def test_large_requests_take_turns_with_each_other():
    """Of three large requests each has a row before any has a second one, batch after batch."""
    desk = Desk(max_batch_size=2)
    first, second, third = (desk.push(3) for _ in range(3))
    turns = []
    while desk.scheduler.requests:
        batch = desk.start()
        turns += members(batch)
        desk.finish(batch)

    assert [first, second, third] * 3 == turns


def test_rows_are_split_between_free_slots():
    """With two slots free, half of what waits goes to each of them."""
    desk = Desk(max_batch_size=8, slots=2)
    entry = desk.push(6)
    batches = [desk.scheduler.take(), desk.scheduler.take()]

    assert [[(0, 3)], [(3, 6)]] == [spans(batch) for batch in batches]
    assert [Dispatch.SPLIT, Dispatch.IDLE] == [batch.dispatch for batch in batches]
    assert 0 == entry.left


def test_one_free_slot_gets_all_that_fits():
    """Beside a running batch there is nothing to split with."""
    desk = Desk(max_batch_size=8, slots=2)
    desk.occupy()
    desk.push(6)

    assert [(0, 6)] == spans(desk.scheduler.take())


@pytest.mark.parametrize(("wide_row_seconds", "wide"), [(0.04, True), (0.06, False), (None, False)])
def test_wide_batch_is_chosen_when_it_is_sooner(wide_row_seconds, wide):
    """Four rows at once on the whole device run if that takes less than two in each of two slots, as far as known."""
    desk = Desk(row_seconds=0.1, slots=2, wide=True)
    if wide_row_seconds is not None:
        learn_line(desk.scheduler.wide_costs, wide_row_seconds)
    desk.push(4)
    batch = desk.scheduler.take()

    assert wide == batch.wide
    assert (4 if wide else 2) == batch.size
    assert (Dispatch.IDLE if wide else Dispatch.SPLIT) is batch.dispatch


@pytest.mark.parametrize("busy", ["running", "staged"])
def test_wide_batch_needs_an_idle_device(busy):
    """However fast the whole device is, a batch has it only if no other runs or is about to."""
    desk = Desk(row_seconds=0.1, slots=2, wide=True)
    desk.push()
    batch = desk.scheduler.take()
    if busy == "running":
        desk.scheduler.start(batch)
    learn_line(desk.scheduler.wide_costs, 0.001)
    desk.push(2)

    assert not desk.scheduler.take().wide


def test_wide_batch_needs_all_rows_to_fit():
    """More rows than fit into one batch keep all slots busy: they run side by side."""
    desk = Desk(row_seconds=0.1, slots=2, wide=True, max_batch_size=4)
    learn_line(desk.scheduler.wide_costs, 0.001)
    desk.push(5)

    assert not desk.scheduler.take().wide


def test_wide_batch_runs_alone():
    """While a batch has the whole device no other starts, sealed or not."""
    desk = Desk(row_seconds=0.1, slots=2, wide=True, max_batch_size=2)
    learn_line(desk.scheduler.wide_costs, 0.001)
    wide = desk.occupy(2)
    desk.push()

    assert wide.wide
    assert desk.scheduler.take() is None
    desk.push()
    assert not desk.scheduler.can_start(desk.scheduler.take())


def test_narrow_batch_teaches_nothing_about_wide_ones():
    """What a batch costs in one slot and with the whole device is learned apart."""
    desk = Desk(row_seconds=0.1, slots=2, wide=True)
    learn_line(desk.scheduler.wide_costs, 0.04)
    wide = desk.occupy(4)
    desk.finish(wide, 0.08)

    assert wide.wide
    assert desk.scheduler.costs.predict(4) == pytest.approx(0.4)
    assert 0.08 < desk.scheduler.wide_costs.predict(4) < 0.16


@pytest.mark.parametrize(("seconds", "size"), [(0.25, 2), (0.79, 7), (0.05, 1), (NEVER, 8)])
def test_batch_takes_no_longer_than_its_limit(seconds, size):
    """A batch has as many rows as are through within max_batch_seconds; one row always runs."""
    desk = Desk(row_seconds=0.1, max_batch_size=8, max_batch_seconds=seconds)
    desk.push(64)

    assert size == desk.scheduler.take().size


def test_batch_is_sealed_when_its_members_are_certain():
    """While all slots are busy the next batch is taken once as many requests wait as it has rows, and only one."""
    desk = Desk(max_batch_size=2)
    desk.occupy()
    large = desk.push(9)

    assert not desk.scheduler.can_take
    small = desk.push()
    assert [large, small] == members(desk.scheduler.take())
    desk.push()
    assert not desk.scheduler.can_take


def test_batches_do_not_pile_up_before_the_first_starts():
    """At most one batch is ahead of the slots, also if others are taken while the first has yet to start."""
    desk = Desk(max_batch_size=2)
    for _ in range(6):
        desk.push()
    first, *ahead = [batch for _ in range(3) if (batch := desk.scheduler.take())]
    desk.scheduler.start(first)

    assert len(ahead) <= 1


def test_sealed_batch_is_not_overtaken():
    """When a slot gets free it is for the batch that was taken early: no other is taken before that one starts."""
    desk = Desk(max_batch_size=2)
    running = desk.occupy()
    for _ in range(4):
        desk.push()
    sealed = desk.scheduler.take()
    desk.finish(running)

    assert desk.scheduler.can_start(sealed)
    assert desk.scheduler.take() is None


def test_expired_requests_do_not_seal_a_batch():
    """Requests that are dead leave room in a batch, so it is not taken early because of them."""
    desk = Desk(max_batch_size=2)
    desk.occupy()
    desk.push(has=1.0)
    desk.push()
    desk.clock.now += 2

    assert desk.scheduler.take() is None


def test_shape_of_one_who_left_seals_no_batch():
    """Whether a batch is certain depends on the first who still waits, not on one who has left."""
    desk = Desk(max_batch_size=2)
    running = desk.occupy()
    first, second, gone, *_ = (desk.push(width=width) for width in (1, 1, 3, 2, 3, 3))
    desk.leave(gone)
    desk.finish(running)

    assert [first, second] == members(desk.start())
    assert desk.scheduler.take() is None  # the next one has another shape than the two behind it


def test_dead_request_is_left_out_at_the_start():
    """Who leaves or expires between composition and start does not run; the others do."""
    desk = Desk()
    gone, late, stays = desk.push(), desk.push(has=1.0), desk.push()
    batch = desk.scheduler.take()
    gone.future.finish()
    desk.clock.now += 2

    assert [gone, late] == desk.scheduler.start(batch)
    assert [stays] == members(batch)


def test_longest_run_is_the_oldest_batch():
    """Of the batches that run, the one that began first says for how long."""
    desk = Desk(slots=2)
    first = desk.occupy()
    desk.clock.now += 3
    desk.occupy()
    desk.clock.now += 2

    assert 5 == desk.scheduler.longest_run_seconds
    desk.finish(first)
    assert 2 == desk.scheduler.longest_run_seconds


def test_backlog_is_what_runs_and_what_waits():
    """The backlog counts the rest of the running batches and every row that waits, divided by the slots."""
    desk = Desk(row_seconds=0.1, slots=2)
    desk.occupy()
    desk.occupy()
    desk.push(6)
    desk.clock.now += 0.05

    assert desk.scheduler.backlog_seconds == pytest.approx((2 * 0.05 + 0.6) / 2)


def test_discarding_everybody_empties_the_queue():
    """All who wait are returned, in order; what runs goes on."""
    desk = Desk(max_batch_size=2)
    running = desk.occupy()
    waiting = [desk.push(3) for _ in range(3)]

    assert waiting == desk.scheduler.discard_all()
    assert (0, 0) == (desk.scheduler.requests, desk.scheduler.rows)
    desk.finish(running)
    assert desk.scheduler.take() is None


def test_long_queue_costs_no_more_a_request():
    """Of 20,000 waiting requests half leave, and the rest runs: work is not quadratic."""
    desk, started = Desk(max_batch_size=8), time.process_time()
    running, staged, entries, batches = desk.occupy(), None, [], 0
    for _ in range(20_000):
        entries.append(desk.push(has=NEVER))
        staged = staged or desk.scheduler.take()
    for entry in entries[9:10_009]:
        desk.leave(entry)
        assert not desk.scheduler.can_take
    while running:
        desk.finish(running)
        running = staged or desk.scheduler.take()
        if running:
            desk.scheduler.start(running)
            staged = desk.scheduler.take()
            batches += 1

    assert 10_000 / 8 == batches
    assert time.process_time() - started < 2
