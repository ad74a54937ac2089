"""The rules of batching, without threads or an event loop, under a fake clock."""

import contextlib
import math
import time
from itertools import permutations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stylewire.errors import DeadlineError, OverloadedError
from stylewire.server.engine.batching.batch import Batch, Entry
from stylewire.server.engine.batching.scheduler import BatchLimits, Scheduler
from stylewire.server.engine_api.graphs import Dispatch
from support.fakes import FakeClock, FakeFuture

NEVER = 1e9
"""Seconds that do not pass in a test."""


def make_entry(clock, row_count=1, has=None, width=1) -> Entry:
    """Make a request of ``row_count`` rows of ``width`` values that must be through in ``has`` seconds."""
    rows = {"x": np.zeros((row_count, width), np.float32)}
    deadline = None if has is None else clock() + has
    return Entry(rows, frozenset(["y"]), row_count, deadline, clock(), FakeFuture())


class Machine(RuleBasedStateMachine):
    """Whatever comes, leaves, expires, fails or takes long, in whatever order: the rules of batching hold."""

    # --- what happens ------------------------------------------------------------------------------------------------

    @initialize(
        limits=st.builds(
            BatchLimits,
            max_batch_size=st.integers(1, 5),
            max_batch_seconds=st.sampled_from([0.05, 1.0, NEVER]),
            max_queue_seconds=st.sampled_from([0.5, 5.0, NEVER]),
            slots=st.integers(1, 3),
            wide=st.booleans(),
        ),
        narrow=st.lists(st.tuples(st.integers(1, 5), st.floats(0.001, 2)), max_size=3),
        wide=st.lists(st.tuples(st.integers(1, 5), st.floats(0.001, 2)), max_size=3),
    )
    def begin(self, limits, narrow, wide):
        self.clock, self.limits = FakeClock(), limits
        self.scheduler = Scheduler("fake", limits, self.clock)
        for size, seconds in narrow:
            self.scheduler.costs.learn(size, seconds)
        for size, seconds in wide:
            self.scheduler.wide_costs.learn(size, seconds)
        self.waiting: dict[Entry, int] = {}  # -> how many may still come before its next row
        self.taken: dict[Entry, int] = {}  # -> its rows in batches
        self.got: dict[Entry, int] = {}  # -> its rows that came back
        self.staged: list[Batch] = []
        self.running: list[Batch] = []

    @rule(
        row_count=st.integers(1, 9),
        width=st.integers(1, 2),
        has=st.none() | st.sampled_from([-0.1, 0.0, 0.01, 0.5, 4.0]),
    )
    def submit(self, row_count, width, has):
        idle = not (self.waiting or self.staged or self.running)
        entry = make_entry(self.clock, row_count, has, width)
        refusals = (DeadlineError,) if idle else (DeadlineError, OverloadedError)
        with contextlib.suppress(*refusals if has is not None else refusals[1:]):
            self.scheduler.push(entry)
            self.taken[entry] = self.got[entry] = 0
            self.waiting[entry] = len(self.waiting)

    @rule(count=st.integers(5, 30), row_count=st.integers(1, 3), width=st.integers(1, 2), has=st.none() | st.just(4.0))
    def burst(self, count, row_count, width, has):
        for _ in range(count):
            self.submit(row_count, width, has)

    @rule(pick=st.integers(0, 99), known=st.booleans())
    def leave(self, pick, known):
        """Somebody leaves; the scheduler is told now, or later."""
        if entries := [entry for entry in self.taken if not entry.future.done()]:
            entry = entries[pick % len(entries)]
            entry.future.finish()
            if known:
                self._discard(entry)

    @rule()
    def tell_who_left(self):
        for entry in list(self.taken):
            if entry.future.done():
                self._discard(entry)

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.3, 1.1, 6.0]))
    def wait(self, seconds):
        self.clock.now += seconds

    @rule()
    def take(self):
        free, size = self._free(), self.scheduler.max_batch_size
        idle_device, said_so = not (self.running or self.staged), self.scheduler.can_take
        alive = [entry for entry in self.waiting if not entry.dead(self.clock.now)]
        batch = self.scheduler.take()
        for entry in self.scheduler.pop_expired():
            assert entry.dead(self.clock.now)
            del self.waiting[entry]
            entry.future.finish()
        if batch is None:
            assert not (free and alive), "a slot is free and somebody waits"
            assert not (said_so and alive)
            return
        assert said_so
        self.staged.append(batch)
        self._check_rows(batch, size)
        if not free:
            counts = [stop - start for _, start, stop in batch.shares]
            assert [1] * size == counts, "something that arrives later could have been in it"
        if batch.wide:
            assert self.limits.wide
            assert idle_device
        self._check_turns(batch)
        self._check_dispatch(batch, size, free)

    @precondition(lambda self: any(map(self.scheduler.can_start, self.staged)))
    @rule(pick=st.integers(0, 99))
    def start(self, pick):
        able = [batch for batch in self.staged if self.scheduler.can_start(batch)]
        self._start(able[pick % len(able)])

    @rule()
    def keep_busy(self):
        """Start all that can, as threads do that lose no time."""
        for _ in range(self.limits.slots):
            self.take()
            for batch in list(self.staged):
                if self.scheduler.can_start(batch):
                    self._start(batch)

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 99), seconds=st.sampled_from([0.0, 0.001, 0.05, 5.0]), failed=st.booleans())
    def finish(self, pick, seconds, failed):
        self.clock.now += seconds
        self._finish(self.running[pick % len(self.running)], failed=failed)

    def teardown(self):
        """Run everything to its end: whoever is alive gets all its rows."""
        if not hasattr(self, "scheduler"):
            return
        alive = [entry for entry in self.taken if not entry.dead(self.clock.now)]
        batches = sum(entry.row_count for entry in self.taken) + 1
        while self.waiting or self.staged or self.running:
            self.keep_busy()
            if self.running:
                self._finish(self.running[0])
            batches -= 1
            assert batches >= 0, "nothing moves"
            self.counts_are_what_waits()

        assert [entry.row_count for entry in alive] == [self.got[entry] for entry in alive]
        assert 0 == self.scheduler.backlog_seconds
        assert self.scheduler._idle

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def counts_are_what_waits(self):
        assert sum(entry.row_count - self.taken[entry] for entry in self.waiting) == self.scheduler.rows
        assert len(self.waiting) == self.scheduler.requests

    @invariant()
    def slots_are_enough(self):
        assert sum(map(self._width, self.running)) <= self.limits.slots
        assert 1 == len(self.running) or not any(batch.wide for batch in self.running)

    @invariant()
    def one_batch_ahead_is_enough(self):
        assert sum(not self.scheduler.can_start(batch) for batch in self.staged) <= 1

    @invariant()
    def predictions_are_times(self):
        scheduler = self.scheduler
        predicted = [*scheduler._predict(1), *scheduler._predict(9), scheduler.backlog_seconds]
        predicted += [scheduler.costs.predict(3), scheduler.wide_costs.predict(3), scheduler.longest_run_seconds]
        assert all(0 <= seconds < math.inf for seconds in predicted), predicted
        assert 1 <= scheduler.max_batch_size <= self.limits.max_batch_size

    # --- how it is checked -------------------------------------------------------------------------------------------

    def _check_rows(self, batch, size):
        """Nobody's row is in two batches or out of turn; shapes do not mix; nobody is dead."""
        entries = [share.entry for share in batch.shares]
        assert len(set(entries)) == len(entries)
        assert 1 == len({entry.shapes for entry in entries})
        assert 1 <= batch.size <= size
        for entry, start, stop in batch.shares:
            assert self.taken[entry] == start < stop <= entry.row_count
            assert entry in self.waiting
            assert not entry.dead(self.clock.now)
            self.taken[entry] = stop

    def _check_turns(self, batch):
        """Everybody has a row before anybody has a second one, and nobody is passed over for long."""
        for one, other in permutations(batch.shares, 2):
            more = (one.stop - one.start) - (other.stop - other.start)
            assert more <= 1 or not other.entry.left
        members, shapes = [share.entry for share in batch.shares], batch.shares[0].entry.shapes
        for entry in self.waiting.keys() - members:
            self.waiting[entry] -= len(members) if entry.shapes == shapes else 1
            assert self.waiting[entry] >= 0, "others came first although they came later"
        for entry in members:
            del self.waiting[entry]
        again = [entry for entry in members if entry.left]
        self.waiting |= dict.fromkeys(again, len(self.waiting) + len(again) - 1)

    def _check_dispatch(self, batch, size, free):
        """The reason given is true."""
        cut = len(batch.shares) > 1 and any(share.entry.left for share in batch.shares)
        others = {entry.shapes for entry in self.waiting} - {batch.shares[0].entry.shapes}
        match batch.dispatch:
            case Dispatch.SHAPE:
                assert others
                assert not any(entry.shapes == batch.shares[0].entry.shapes for entry in self.waiting)
            case Dispatch.SPLIT:
                assert free > 1
                assert batch.size < size
            case Dispatch.FULL:
                assert size == batch.size
                assert not cut
            case Dispatch.FAIRNESS:
                assert size == batch.size
                assert cut
        assert (batch.dispatch is Dispatch.IDLE) == (not self.waiting)

    def _start(self, batch):
        now, members = self.clock.now, list(batch.shares)
        gone = self.scheduler.start(batch)

        assert [share.entry for share in members if share.entry.dead(now)] == gone
        assert [share for share in members if not share.entry.dead(now)] == batch.shares
        for entry in gone:
            entry.future.finish()
            self._discard(entry)
        self.staged.remove(batch)
        self.running.append(batch)

    def _finish(self, batch, *, failed=False):
        self.scheduler.finish(batch, failed=failed)
        self.running.remove(batch)
        for entry, start, stop in batch.shares:
            if failed:
                entry.future.finish()
                self._discard(entry)
            if entry.future.done():
                continue
            self.got[entry] += stop - start
            if self.got[entry] == entry.row_count:
                self.scheduler.learn(entry)
                entry.future.finish()

    def _discard(self, entry):
        self.scheduler.discard(entry)
        self.waiting.pop(entry, None)

    def _width(self, batch):
        return self.limits.slots if batch.wide else 1

    def _free(self):
        return max(0, self.limits.slots - sum(map(self._width, self.running + self.staged)))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=40)


# --- examples --------------------------------------------------------------------------------------------------------


class Desk:
    """A scheduler under a fake clock.

    Args:
        row_seconds: what a row costs, as learned from batches of several sizes; None if nothing is known.
    """

    def __init__(self, *, row_seconds=None, **limits) -> None:
        unlimited = {"max_batch_size": 4, "max_batch_seconds": NEVER, "max_queue_seconds": NEVER}
        self.clock = FakeClock()
        self.scheduler = Scheduler("fake", BatchLimits(**(unlimited | limits)), self.clock)
        if row_seconds is not None:
            learn_line(self.scheduler.costs, row_seconds)

    def push(self, row_count=1, has=None, width=1) -> Entry:
        entry = make_entry(self.clock, row_count, has, width)
        self.scheduler.push(entry)
        return entry

    def leave(self, entry) -> None:
        entry.future.finish()
        self.scheduler.discard(entry)

    def start(self) -> Batch:
        """Take a batch and start it."""
        batch = self.scheduler.take()
        self.scheduler.start(batch)
        return batch

    def occupy(self, row_count=1) -> Batch:
        """Keep a slot busy with a batch of somebody else."""
        self.push(row_count)
        return self.start()

    def finish(self, batch, seconds=0.0) -> None:
        self.clock.now += seconds
        self.scheduler.finish(batch)

    def serve(self, entry, seconds) -> None:
        """Run a request that is alone, and answer it."""
        self.finish(self.start(), seconds)
        entry.future.finish()
        self.scheduler.learn(entry)


def learn_line(costs, row_seconds) -> None:
    for size in (1, 2, 4):
        costs.learn(size, row_seconds * size)


def members(batch) -> list[Entry]:
    return [share.entry for share in batch.shares]


def spans(batch) -> list[tuple[int, int]]:
    return [(start, stop) for _, start, stop in batch.shares]


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


def test_wait_over_the_limit_is_refused_with_a_hint():
    """A request that would wait for longer than max_queue_seconds learns when half of the limit is left."""
    desk = Desk(row_seconds=1.0, max_queue_seconds=3.0)
    desk.occupy()
    desk.push(4)

    with pytest.raises(OverloadedError) as caught:
        desk.push(4)
    assert caught.value.retry_after_seconds == pytest.approx(1 + 4 - 3.0 / 2)
    assert (1, 4) == (desk.scheduler.requests, desk.scheduler.rows)


def test_small_request_is_admitted_beside_a_large_one():
    """One row beside 64 that wait has only one row of them before it, so a short deadline is enough."""
    desk = Desk(row_seconds=0.1)
    desk.occupy()
    desk.push(64)

    desk.push(1, has=0.35)
    with pytest.raises(DeadlineError):
        desk.push(2, has=0.35)
    with pytest.raises(DeadlineError):
        desk.push(1, has=0.35)


def test_slots_shorten_the_wait():
    """What waits is divided by the slots: with two of them a deadline is met that one cannot meet."""
    one, two = (Desk(row_seconds=0.1, slots=slots) for slots in (1, 2))
    for desk, slots in ((one, 1), (two, 2)):
        for _ in range(slots):
            desk.occupy()
        desk.push(8)

    with pytest.raises(DeadlineError):
        one.push(4, has=0.75)
    two.push(4, has=0.75)


def test_deadline_that_cannot_be_met_is_refused_at_the_door():
    """A request that costs more than it has is refused before it waits, and the error says how much it needs."""
    desk = Desk(row_seconds=2.0)

    with pytest.raises(DeadlineError, match=r"needs 2\.000 s, the request has 1\.000 s"):
        desk.push(has=1.0)
    assert 0 == desk.scheduler.requests


def test_idle_scheduler_tries_a_request_when_its_prediction_is_old():
    """More than a second after the last batch a request is tried that looks hopeless, and its cost is learned."""
    desk = Desk(row_seconds=2.0)
    desk.clock.now += 1.5
    desk.serve(desk.push(has=1.0), seconds=0.2)

    assert desk.scheduler.costs.predict(1) < 2.0
    with pytest.raises(DeadlineError):
        desk.push(has=1.0)


def test_tries_bring_a_wrong_prediction_down():
    """A scheduler that believes in ten times the true cost is right again after some tries, one at a time."""
    desk = Desk(row_seconds=2.0)
    tries = 0
    while desk.scheduler.costs.predict(1) > 0.8:
        desk.clock.now += 1.5
        entry = desk.push(has=1.0)
        with pytest.raises(DeadlineError):
            desk.push(has=1.0)
        desk.serve(entry, seconds=0.2)
        tries += 1

    assert 5 < tries < 60
    desk.push(has=1.5)


def test_busy_scheduler_trusts_its_prediction():
    """While a batch runs nothing hopeless is tried, however long ago the last one ended."""
    desk = Desk(row_seconds=2.0)
    desk.occupy()
    desk.clock.now += 10

    with pytest.raises(DeadlineError):
        desk.push(has=1.0)


def test_late_answers_make_admission_careful():
    """After answers that came later than predicted, a request needs more time than its batch costs."""
    desk = Desk(row_seconds=1.0)
    entry = desk.push(has=1.1)
    desk.clock.now += 1  # nobody took it for so long
    desk.serve(entry, seconds=1.0)

    with pytest.raises(DeadlineError):
        desk.push(has=1.9)
    desk.push(has=2.01)


def test_margin_takes_half_at_most():
    """However late answers were, half of what a request has is enough."""
    desk = Desk(row_seconds=1.0)
    for _ in range(20):
        entry = desk.push()
        desk.clock.now += 100
        desk.serve(entry, seconds=1.0)

    with pytest.raises(DeadlineError):
        desk.push(has=1.98)
    desk.push(has=2.02)


@pytest.mark.parametrize("how", ["expires", "leaves"])
def test_request_without_an_answer_teaches_too(how):
    """Whoever expires or leaves later than promised counts as late: answers alone would tell of the lucky ones only."""
    desk = Desk(row_seconds=0.2)
    entry = desk.push(has=0.4)
    desk.clock.now += 0.6
    if how == "expires":
        assert desk.scheduler.take() is None
        assert [entry] == desk.scheduler.pop_expired()
    else:
        entry.future.finish()
        desk.scheduler.leave(entry)

    with pytest.raises(DeadlineError):
        desk.push(has=0.39)
    desk.push(has=0.41)


def test_request_that_leaves_early_teaches_nothing():
    """Whoever leaves before the promised time says nothing about it."""
    desk = Desk(row_seconds=1.0)
    entry = desk.push(has=3.0)
    entry.future.finish()
    desk.scheduler.leave(entry)

    desk.push(has=1.01)


def test_large_request_teaches_no_margin():
    """A request of more than one batch is overtaken by design, so its lateness says nothing."""
    desk = Desk(row_seconds=1.0, max_batch_size=1)
    entry = desk.push(2)
    desk.clock.now += 100
    desk.finish(desk.start(), 1.0)
    desk.serve(entry, seconds=1.0)

    desk.push(has=1.01)


def test_one_stall_does_not_refuse_what_follows():
    """After one batch of a hundred times its cost, a request with three times its cost is served as before."""
    desk = Desk(row_seconds=0.1)
    for seconds in (0.1,) * 20 + (10.0,):
        desk.serve(desk.push(has=NEVER), seconds)

    assert desk.scheduler.costs.predict(1) < 0.15
    desk.push(has=0.3)


def test_failed_batch_teaches_no_cost():
    """What a batch took that failed says nothing about those that do not."""
    desk = Desk(row_seconds=0.1)
    batch = desk.occupy()
    desk.clock.now += 0.3
    desk.scheduler.finish(batch, failed=True)

    assert desk.scheduler.costs.predict(1) == pytest.approx(0.1)


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
