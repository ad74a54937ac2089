"""Who runs next, and who is turned away: the rules of batching without threads, event loop or clock of their own.

A device has slots; a batch runs in one of them or, if it is *wide*, has them all. There is no timer: whenever a slot is
free, a batch of what waits is taken, a row of every request in turn, so an idle server adds no latency, load makes
batches grow by itself, and a large request delays a small one by no more than the batch that runs.

While all slots are busy, the next batch is taken and stacked early if it is *sealed*: if nothing that arrives later
could be in it, because as many requests wait as the batch has rows. One batch ahead is enough.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stylewire.errors import DeadlineError, OverloadedError
from stylewire.server.engine.batching.batch import Batch, Entry, Share, count_rows
from stylewire.server.engine.batching.cost_model import CostModel, Margin
from stylewire.server.engine_api.graphs import Dispatch

_STALE_SECONDS = 1.0
"""An idle device whose last batch is longer ago tries a request even if the prediction says that it comes too late."""
_MARGIN_SHARE = 0.5
"""What the margin may take of the time that a request has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """What bounds batches, the queue, and the threads that run them.

    Attributes:
        max_batch_size: rows in the largest batch.
        max_batch_seconds: predicted run time of the largest batch; one row always runs.
        max_queue_seconds: predicted wait at which requests are refused.
        slots: batches that run at once.
        wide: whether a batch can have the whole device for itself, to be through sooner.
        yields: whether the threads give way to the event loop; where both share one core, a flood of refusals must not
            keep them from working.
    """

    max_batch_size: int
    max_batch_seconds: float
    max_queue_seconds: float
    slots: int = 1
    wide: bool = False
    yields: bool = False


class Scheduler:
    """Rows that wait for one graph, and the batches of it that run.

    Every method is called under one lock, by ``batcher.py``.

    Attributes:
        costs: of a batch in one slot.
        wide_costs: of a batch that has the whole device.
        rows: how many rows are in the queue.
        requests: how many requests have them.
    """

    def __init__(
        self,
        name: str,
        limits: BatchLimits,
        clock: Callable[[], float],
        costs: tuple[CostModel, CostModel] | None = None,
    ) -> None:
        self.costs, self.wide_costs = costs or (CostModel(), CostModel())
        self.rows = self.requests = 0
        self._name, self._limits, self._clock = name, limits, clock
        self._entries: deque[Entry] = deque()
        self._expired: list[Entry] = []
        self._staged: list[Batch] = []  # taken, not yet running
        self._running: list[Batch] = []
        self._taken_slots = self._busy_slots = 0
        self._margin = Margin()
        self._last_run = clock()

    # --- requests ----------------------------------------------------------------------------------------------------

    def check(self, row_count: int, deadline: float | None) -> float:
        """Predict how long a new request takes, waiting included.

        Raises:
            OverloadedError: those before it take too long.
            DeadlineError: it cannot be through by its deadline.
        """
        wait, own = self.predict(row_count)
        most = self._limits.max_queue_seconds
        if wait > most:
            raise OverloadedError(
                f"the wait for {self._name} would be {wait:.2f} s, more than {most:g} s; retry later",
                retry_after_seconds=max(0.0, wait - most / 2),
            )
        if deadline is not None:
            now = self._clock()
            has = deadline - now
            needs = wait + own + min(self._margin.seconds(now), _MARGIN_SHARE * has)
            if needs > has and not self._stale():
                raise DeadlineError(
                    f"the deadline cannot be met: {self._name} needs {needs:.3f} s, the request has {max(has, 0.0):.3f}"
                    " s; allow more time"
                )
        return wait + own

    def push(self, entry: Entry) -> None:
        """Let a request wait, or refuse it at the door; see ``check``."""
        entry.promised, entry.waits = self.check(entry.row_count, entry.deadline), True
        self._entries.append(entry)
        self._count(entry, 1)

    def discard(self, entry: Entry) -> None:
        """Take a request out of the queue, if it is there."""
        if not entry.waits:
            return
        entry.waits = False
        self._count(entry, -1)
        while self._entries and not self._entries[0].waits:  # others are skipped when their turn comes
            self._entries.popleft()

    def leave(self, entry: Entry) -> None:
        """Take a request out whose caller has gone; one that was late by then teaches that."""
        if self._clock() > entry.submitted + entry.promised:
            self.learn(entry)
        self.discard(entry)

    def running_with(self, entry: Entry) -> list[Batch]:
        """Return the batches that run rows of a request."""
        return [batch for batch in self._running if any(share.entry is entry for share in batch.shares)]

    def discard_all(self) -> list[Entry]:
        """Take everybody out of the queue; returns them and those whose batch is staged."""
        staged = [share.entry for batch in self._staged for share in batch.shares]
        queued = [entry for entry in self._entries if entry.waits]
        for entry in queued:
            self.discard(entry)
        return list(dict.fromkeys(staged + queued))

    def pop_expired(self) -> list[Entry]:
        """Return those whose deadline had passed when it was their turn."""
        expired, self._expired = self._expired, []
        return expired

    def learn(self, entry: Entry) -> None:
        """Compare what a request was promised with what it has taken."""
        if entry.row_count <= self.max_batch_size:  # a large request is overtaken by small ones that come later
            now = self._clock()
            self._margin.learn(now - entry.submitted - entry.promised, now)

    # --- batches -----------------------------------------------------------------------------------------------------

    @property
    def max_batch_size(self) -> int:
        """Rows in the largest batch, given what rows cost."""
        return self.costs.rows_within(self._limits.max_batch_seconds, self._limits.max_batch_size)

    @property
    def can_take(self) -> bool:
        """Whether ``take`` would give a batch."""
        return self.requests > 0 and (self._free > 0 or self._sealed())

    def take(self) -> Batch | None:
        """Compose the next batch; None if there is none now. It is staged until it starts."""
        if not self.can_take:
            return None
        limit, wide, split = self.max_batch_size, False, False
        if self._free:
            part = min(limit, -(-self.rows // self._free))
            wide = self._wide_is_sooner(part)
            split = not wide and part < min(limit, self.rows)
            limit = limit if wide else part
        shares = self._compose(limit)
        if not shares:
            return None
        batch = Batch(shares, wide, self._reason(shares, limit, split=split))
        self._staged.append(batch)
        self._taken_slots += self._width(batch)
        return batch

    def can_start(self, batch: Batch) -> bool:
        """Whether there is a slot for a staged batch."""
        return self._busy_slots + self._width(batch) <= self._limits.slots

    def start(self, batch: Batch) -> list[Entry]:
        """Put a staged batch into a slot, without the requests that are dead by now; they are returned."""
        self._staged.remove(batch)
        self._running.append(batch)
        self._busy_slots += self._width(batch)
        batch.started = self._clock()
        dead = batch.keep_alive(batch.started)
        for entry in dead:
            self.leave(entry)
        for share in batch.shares:
            if share.entry.started is None:
                share.entry.started = batch.started
        return dead

    def drop(self, batch: Batch) -> None:
        """Give up a staged batch, and what else its requests have in the queue."""
        self._staged.remove(batch)
        self._taken_slots -= self._width(batch)
        self._discard_members(batch)

    def finish(self, batch: Batch, *, failed: bool = False) -> None:
        """Free the slot of a batch and learn from it; if it failed, its requests need no further rows."""
        self._running.remove(batch)
        self._busy_slots -= self._width(batch)
        self._taken_slots -= self._width(batch)
        self._last_run = self._clock()
        assert batch.started is not None
        batch.run_seconds = self._last_run - batch.started
        if failed:
            self._discard_members(batch)
        elif batch.shares:
            (self.wide_costs if batch.wide else self.costs).learn(batch.size, batch.run_seconds)

    @property
    def waiting_rows(self) -> int:
        """Rows in the queue and in batches that are staged."""
        return self.rows + sum(batch.size for batch in self._staged)

    @property
    def backlog_seconds(self) -> float:
        """Predicted time until everything is through that waits or runs."""
        queued = self.costs.predict_rows(self.rows, self.max_batch_size)
        return (self._remaining() + queued) / self._limits.slots

    @property
    def longest_run_seconds(self) -> float:
        """For how long the oldest of the running batches has been running."""
        now = self._clock()
        return max((now - batch.started for batch in self._running if batch.started is not None), default=0.0)

    # --- predictions -------------------------------------------------------------------------------------------------

    def predict(self, row_count: int) -> tuple[float, float]:
        """Predict how long a new request of so many rows waits, and how long it runs."""
        size, slots = self.max_batch_size, self._limits.slots
        if self.idle:
            own = self.costs.predict_rows(-(-row_count // slots), size)
            return 0.0, min(own, self.wide_costs.predict_rows(row_count, size)) if self._limits.wide else own
        # In turn with everybody else: of a request with more rows, only as many come before.
        if row_count == 1:
            ahead = self.requests
        else:
            ahead = sum(min(each.left, row_count) for each in self._entries if each.waits)
        queued = self.costs.predict_rows(ahead, size) / slots
        wait = queued if self._free and not ahead else queued + self._remaining() / slots
        own = self.costs.predict_rows(row_count, size)
        return wait, own if row_count <= size else own / slots

    def _remaining(self) -> float:
        """Predicted seconds of all slots together until the batches are through that were taken."""
        now, seconds = self._clock(), 0.0
        for batch in itertools.chain(self._running, self._staged):
            costs = self.wide_costs if batch.wide else self.costs
            ran = now - batch.started if batch.started is not None else 0.0
            seconds += self._width(batch) * max(0.0, costs.predict(batch.size) - ran)
        return seconds

    def _stale(self) -> bool:
        """Whether a prediction is too old to turn a request away: nothing would ever correct it."""
        return self.idle and self._clock() - self._last_run > _STALE_SECONDS

    # --- composition -------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not (self.requests or self._staged or self._running)

    def _count(self, entry: Entry, sign: int) -> None:
        self.requests += sign
        self.rows += sign * entry.left

    @property
    def _free(self) -> int:
        """Slots that no batch has taken."""
        return max(0, self._limits.slots - self._taken_slots)

    def _discard_members(self, batch: Batch) -> None:
        for share in batch.shares:
            self.discard(share.entry)

    def _width(self, batch: Batch) -> int:
        return self._limits.slots if batch.wide else 1

    def _sealed(self) -> bool:
        size = self.max_batch_size
        if self._staged or self.requests < size or size == 1:  # one row: it might be that of somebody who comes now
            return False
        return sum(1 for _ in itertools.islice(self._stackable(), size)) == size

    def _wide_is_sooner(self, part: int) -> bool:
        """Whether one wide batch of all rows is through before batches of ``part`` rows, one in each slot."""
        if not self._limits.wide or self._running or self._staged or self.rows > self.max_batch_size:
            return False
        return self.wide_costs.known and self.wide_costs.predict(self.rows) < self.costs.predict(part)

    def _stackable(self) -> Iterator[Entry]:
        """Requests whose rows have the shapes of the first one's, such as those with stored noise only."""
        now = self._clock()
        alive = (entry for entry in self._entries if entry.waits and not entry.dead(now))
        for first in alive:
            yield first
            yield from (entry for entry in alive if entry.shapes == first.shapes)

    def _compose(self, limit: int) -> list[Share]:
        """Take a row of every request in turn until the batch is full or nobody waits."""
        first = self._pop_first(limit)
        counts = dict.fromkeys(first, 0)
        room = limit
        while room and (hungry := [entry for entry in first if counts[entry] < entry.left]):
            for entry in hungry[:room]:
                counts[entry] += 1
            room -= min(room, len(hungry))
        shares = [Share(entry, entry.taken, entry.taken + count) for entry, count in counts.items()]
        for entry, count in counts.items():
            self._count(entry, -1)
            entry.taken += count
            entry.waits = entry.left > 0
            if entry.waits:  # to the end, so that those behind it come first into the next batch
                self._count(entry, 1)
                self._entries.append(entry)
        return shares

    def _pop_first(self, most: int) -> list[Entry]:
        """Take the first requests of one shape out of the queue, past those that are dead."""
        now, found, passed = self._clock(), list[Entry](), list[Entry]()
        while self._entries and len(found) < most:
            entry = self._entries.popleft()
            if not entry.waits:
                continue
            if entry.dead(now):
                self.leave(entry)
                self._expired.append(entry)
            elif found and entry.shapes != found[0].shapes:
                passed.append(entry)
            else:
                found.append(entry)
        self._entries.extendleft(reversed(passed))
        return found

    def _reason(self, shares: list[Share], limit: int, *, split: bool) -> Dispatch:
        if not self.requests:
            return Dispatch.IDLE
        if count_rows(shares) < limit:
            return Dispatch.SHAPE
        if split:
            return Dispatch.SPLIT
        cut = any(share.entry.left for share in shares) and len(shares) > 1
        return Dispatch.FAIRNESS if cut else Dispatch.FULL
