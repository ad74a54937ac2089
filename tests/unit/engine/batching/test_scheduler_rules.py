"""The rules of batching, whatever happens in whatever order: a state machine, under a fake clock."""

import contextlib
import math
from itertools import permutations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stylewire.errors import DeadlineError, OverloadedError
from stylewire.server.engine.batching.batch import Batch, QueuedRequest
from stylewire.server.engine.batching.limits import BatchLimits
from stylewire.server.engine.batching.scheduler import Scheduler
from stylewire.server.engine_api.graphs import Dispatch
from support.fakes import FakeClock
from support.scheduler_harness import (
    NEVER,
    make_entry,
)


class Machine(RuleBasedStateMachine):
    """Whatever comes, leaves, expires, fails or takes long, in whatever order: the rules of batching hold."""

    # --- what happens ------------------------------------------------------------------------------------------------

    @initialize(
        limits=st.builds(
            BatchLimits,
            max_batch_size=st.integers(1, 5),
            max_batch_seconds=st.sampled_from([0.05, 1.0, NEVER]),
            max_queue_seconds=st.sampled_from([0.5, 5.0, NEVER]),
            instances=st.integers(1, 3),
            exclusive=st.booleans(),
        ),
        narrow=st.lists(st.tuples(st.integers(1, 5), st.floats(0.001, 2)), max_size=3),
        exclusive=st.lists(st.tuples(st.integers(1, 5), st.floats(0.001, 2)), max_size=3),
    )
    def begin(self, limits, narrow, exclusive):
        self.clock, self.limits = FakeClock(), limits
        self.scheduler = Scheduler("fake", limits, self.clock)
        for size, seconds in narrow:
            self.scheduler.costs.learn(size, seconds)
        for size, seconds in exclusive:
            self.scheduler.exclusive_costs.learn(size, seconds)
        self.waiting: dict[QueuedRequest, int] = {}  # -> how many may still come before its next row
        self.taken: dict[QueuedRequest, int] = {}  # -> its rows in batches
        self.got: dict[QueuedRequest, int] = {}  # -> its rows that came back
        self.prepared: list[Batch] = []
        self.running: list[Batch] = []

    @rule(
        row_count=st.integers(1, 9),
        width=st.integers(1, 2),
        has=st.none() | st.sampled_from([-0.1, 0.0, 0.01, 0.5, 4.0]),
    )
    def submit(self, row_count, width, has):
        idle = not (self.waiting or self.prepared or self.running)
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
        idle_device, said_so = not (self.running or self.prepared), self.scheduler.can_take
        alive = [entry for entry in self.waiting if not entry.dead(self.clock.now)]
        batch = self.scheduler.take()
        for entry in self.scheduler.pop_expired():
            assert entry.dead(self.clock.now)
            del self.waiting[entry]
            entry.future.finish()
        if batch is None:
            assert not (free and alive), "an instance is free and somebody waits"
            assert not (said_so and alive)
            return
        assert said_so
        self.prepared.append(batch)
        self._check_rows(batch, size)
        if not free:
            counts = [stop - start for _, start, stop in batch.slices]
            assert [1] * size == counts, "something that arrives later could have been in it"
        if batch.exclusive:
            assert self.limits.exclusive
            assert idle_device
        self._check_turns(batch)
        self._check_dispatch(batch, size, free)

    @precondition(lambda self: any(map(self.scheduler.can_start, self.prepared)))
    @rule(pick=st.integers(0, 99))
    def start(self, pick):
        able = [batch for batch in self.prepared if self.scheduler.can_start(batch)]
        self._start(able[pick % len(able)])

    @rule()
    def keep_busy(self):
        """Start all that can, as threads do that lose no time."""
        for _ in range(self.limits.instances):
            self.take()
            for batch in list(self.prepared):
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
        while self.waiting or self.prepared or self.running:
            self.keep_busy()
            if self.running:
                self._finish(self.running[0])
            batches -= 1
            assert batches >= 0, "nothing moves"
            self.counts_are_what_waits()

        assert [entry.row_count for entry in alive] == [self.got[entry] for entry in alive]
        assert 0 == self.scheduler.backlog_seconds
        assert self.scheduler.idle

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def counts_are_what_waits(self):
        assert sum(entry.row_count - self.taken[entry] for entry in self.waiting) == self.scheduler.rows
        assert len(self.waiting) == self.scheduler.requests

    @invariant()
    def instances_are_enough(self):
        assert sum(map(self._width, self.running)) <= self.limits.instances
        assert 1 == len(self.running) or not any(batch.exclusive for batch in self.running)

    @invariant()
    def one_batch_ahead_is_enough(self):
        assert sum(not self.scheduler.can_start(batch) for batch in self.prepared) <= 1

    @invariant()
    def predictions_are_times(self):
        scheduler = self.scheduler
        predicted = [*scheduler.predict(1), *scheduler.predict(9), scheduler.backlog_seconds]
        predicted += [scheduler.costs.predict(3), scheduler.exclusive_costs.predict(3), scheduler.longest_run_seconds]
        assert all(0 <= seconds < math.inf for seconds in predicted), predicted
        assert 1 <= scheduler.max_batch_size <= self.limits.max_batch_size

    # --- how it is checked -------------------------------------------------------------------------------------------

    def _check_rows(self, batch, size):
        """Nobody's row is in two batches or out of turn; shapes do not mix; nobody is dead."""
        entries = [part.request for part in batch.slices]
        assert len(set(entries)) == len(entries)
        assert 1 == len({entry.shapes for entry in entries})
        assert 1 <= batch.size <= size
        for entry, start, stop in batch.slices:
            assert self.taken[entry] == start < stop <= entry.row_count
            assert entry in self.waiting
            assert not entry.dead(self.clock.now)
            self.taken[entry] = stop

    def _check_turns(self, batch):
        """Everybody has a row before anybody has a second one, and nobody is passed over for long."""
        for one, other in permutations(batch.slices, 2):
            more = (one.stop - one.start) - (other.stop - other.start)
            assert more <= 1 or not other.request.left
        members, shapes = [part.request for part in batch.slices], batch.slices[0].request.shapes
        for entry in self.waiting.keys() - members:
            self.waiting[entry] -= len(members) if entry.shapes == shapes else 1
            assert self.waiting[entry] >= 0, "others came first although they came later"
        for entry in members:
            del self.waiting[entry]
        again = [entry for entry in members if entry.left]
        self.waiting |= dict.fromkeys(again, len(self.waiting) + len(again) - 1)

    def _check_dispatch(self, batch, size, free):
        """The reason given is true."""
        cut = len(batch.slices) > 1 and any(part.request.left for part in batch.slices)
        others = {entry.shapes for entry in self.waiting} - {batch.slices[0].request.shapes}
        match batch.dispatch:
            case Dispatch.SHAPE:
                assert others
                assert not any(entry.shapes == batch.slices[0].request.shapes for entry in self.waiting)
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
        now, members = self.clock.now, list(batch.slices)
        gone = self.scheduler.start(batch)

        assert [part.request for part in members if part.request.dead(now)] == gone
        assert [part for part in members if not part.request.dead(now)] == batch.slices
        for entry in gone:
            entry.future.finish()
            self._discard(entry)
        self.prepared.remove(batch)
        self.running.append(batch)

    def _finish(self, batch, *, failed=False):
        self.scheduler.finish(batch, failed=failed)
        self.running.remove(batch)
        for entry, start, stop in batch.slices:
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
        self.scheduler.remove(entry)
        self.waiting.pop(entry, None)

    def _width(self, batch):
        return self.limits.instances if batch.exclusive else 1

    def _free(self):
        return max(0, self.limits.instances - sum(map(self._width, self.running + self.prepared)))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=40)
