"""Who runs next, and who is turned away: the rules of batching without threads, event loop or clock of their own.

A graph has instances; a batch runs in one of them or, if it is *exclusive*, has them all. There is no timer: whenever
an instance is free, a batch of what waits is taken, a row of every request in turn, so an idle server adds no latency,
load makes batches grow by itself, and a large request delays a small one by no more than the batch that runs.

While all instances are busy, the next batch is taken and stacked early if it is *complete*: if nothing that arrives
later could be in it, because as many requests wait as the batch has rows. One batch ahead is enough.
"""

import itertools
from collections.abc import Callable

from stylewire.errors import DeadlineError, OverloadedError
from stylewire.server.engine.batching.batch import Batch, BatchSlice, QueuedRequest, count_rows
from stylewire.server.engine.batching.cost_model import CostModel, Margin
from stylewire.server.engine.batching.limits import BatchLimits
from stylewire.server.engine.batching.queue import RequestQueue
from stylewire.server.engine_api.graphs import Dispatch

_STALE_SECONDS = 1.0
"""An idle device whose last batch is longer ago tries a request even if the prediction says that it comes too late."""
_MARGIN_SHARE = 0.5
"""What the margin may take of the time that a request has."""


class Scheduler:
    """Rows that wait for one graph, and the batches of it that run.

    Every method is called under one lock, by ``batcher.py``.

    Attributes:
        costs: of a batch in one instance.
        exclusive_costs: of a batch that has the whole device.
    """

    def __init__(
        self,
        name: str,
        limits: BatchLimits,
        clock: Callable[[], float],
        costs: tuple[CostModel, CostModel] | None = None,
    ) -> None:
        self.costs, self.exclusive_costs = costs or (CostModel(), CostModel())
        self._name, self._limits, self._clock = name, limits, clock
        self._queue = RequestQueue()
        self._expired: list[QueuedRequest] = []
        self._prepared: list[Batch] = []  # taken, not yet running
        self._running: list[Batch] = []
        self._taken_instances = self._busy_instances = 0
        self._margin = Margin()
        self._last_run = clock()

    @property
    def rows(self) -> int:
        """Count the rows in the queue."""
        return self._queue.rows

    @property
    def requests(self) -> int:
        """Count the requests that have them."""
        return self._queue.requests

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

    def push(self, request: QueuedRequest) -> None:
        """Let a request wait, or refuse it at the door; see ``check``."""
        request.predicted_seconds = self.check(request.row_count, request.deadline)
        self._queue.add(request)

    def remove(self, request: QueuedRequest) -> None:
        """Take a request out of the queue, if it is there."""
        self._queue.remove(request)

    def cancel(self, request: QueuedRequest) -> None:
        """Take a request out whose caller has gone; one that was late by then teaches that."""
        if self._clock() > request.submitted + request.predicted_seconds:
            self.learn(request)
        self.remove(request)

    def running_with(self, request: QueuedRequest) -> list[Batch]:
        """Return the batches that run rows of a request."""
        return [batch for batch in self._running if any(each.request is request for each in batch.slices)]

    def remove_all(self) -> list[QueuedRequest]:
        """Take everybody out of the queue; returns them and those whose batch is prepared."""
        prepared = [each.request for batch in self._prepared for each in batch.slices]
        return list(dict.fromkeys(prepared + self._queue.remove_all()))

    def pop_expired(self) -> list[QueuedRequest]:
        """Return those whose deadline had passed when it was their turn."""
        expired, self._expired = self._expired, []
        return expired

    def learn(self, request: QueuedRequest) -> None:
        """Compare the time that a request was predicted to take with what it has taken."""
        if request.row_count <= self.max_batch_size:  # a large request is overtaken by small ones that come later
            now = self._clock()
            self._margin.learn(now - request.submitted - request.predicted_seconds, now)

    # --- batches -----------------------------------------------------------------------------------------------------

    @property
    def prepared(self) -> int:
        """Count the batches that were taken and do not run yet."""
        return len(self._prepared)

    @property
    def max_batch_size(self) -> int:
        """Rows in the largest batch, given what rows cost."""
        return self.costs.rows_within(self._limits.max_batch_seconds, self._limits.max_batch_size)

    @property
    def can_take(self) -> bool:
        """Whether ``take`` would return a batch."""
        return self.requests > 0 and (self._free > 0 or self._complete())

    def take(self) -> Batch | None:
        """Compose the next batch; None if there is none now. It is prepared until it starts."""
        if not self.can_take:
            return None
        limit, exclusive, split = self.max_batch_size, False, False
        if self._free:
            part = min(limit, -(-self.rows // self._free))
            exclusive = self._exclusive_is_sooner(part)
            split = not exclusive and part < min(limit, self.rows)
            limit = limit if exclusive else part
        slices, dead = self._queue.compose(limit, self._clock())
        for request in dead:
            self.cancel(request)
            self._expired.append(request)
        if not slices:
            return None
        batch = Batch(slices, exclusive, self._reason(slices, limit, split=split))
        self._prepared.append(batch)
        self._taken_instances += self._width(batch)
        return batch

    def can_start(self, batch: Batch) -> bool:
        """Whether there is an instance for a prepared batch."""
        return self._busy_instances + self._width(batch) <= self._limits.instances

    def start(self, batch: Batch) -> list[QueuedRequest]:
        """Put a prepared batch into an instance, without the requests that are dead by now; they are returned."""
        self._prepared.remove(batch)
        self._running.append(batch)
        self._busy_instances += self._width(batch)
        batch.started = self._clock()
        dead = batch.drop_dead(batch.started)
        for request in dead:
            self.cancel(request)
        for each in batch.slices:
            if each.request.started is None:
                each.request.started = batch.started
        return dead

    def fail(self, batch: Batch) -> None:
        """Give up a prepared batch, and remove its requests from the queue."""
        self._prepared.remove(batch)
        self._taken_instances -= self._width(batch)
        self._remove_members(batch)

    def finish(self, batch: Batch, *, failed: bool = False) -> None:
        """Free the instance of a batch and learn from it; if it failed, its requests need no further rows."""
        self._running.remove(batch)
        self._busy_instances -= self._width(batch)
        self._taken_instances -= self._width(batch)
        self._last_run = self._clock()
        assert batch.started is not None
        batch.run_seconds = self._last_run - batch.started
        if failed:
            self._remove_members(batch)
        elif batch.slices:
            (self.exclusive_costs if batch.exclusive else self.costs).learn(batch.size, batch.run_seconds)

    @property
    def waiting_rows(self) -> int:
        """Rows in the queue and in batches that are prepared."""
        return self.rows + sum(batch.size for batch in self._prepared)

    @property
    def backlog_seconds(self) -> float:
        """Predicted time until everything is through that waits or runs."""
        queued = self.costs.predict_rows(self.rows, self.max_batch_size)
        return (self._remaining() + queued) / self._limits.instances

    @property
    def longest_run_seconds(self) -> float:
        """For how long the oldest of the running batches has been running."""
        now = self._clock()
        return max((now - batch.started for batch in self._running if batch.started is not None), default=0.0)

    # --- predictions -------------------------------------------------------------------------------------------------

    def predict(self, row_count: int) -> tuple[float, float]:
        """Predict how long a new request of so many rows waits, and how long it runs."""
        size, instances = self.max_batch_size, self._limits.instances
        if self.idle:
            own = self.costs.predict_rows(-(-row_count // instances), size)
            return 0.0, min(own, self.exclusive_costs.predict_rows(row_count, size)) if self._limits.exclusive else own
        # In turn with everybody else: of a request with more rows, only as many come before.
        ahead = self._queue.rows_ahead(row_count)
        queued = self.costs.predict_rows(ahead, size) / instances
        wait = queued if self._free and not ahead else queued + self._remaining() / instances
        own = self.costs.predict_rows(row_count, size)
        return wait, own if row_count <= size else own / instances

    def _remaining(self) -> float:
        """Predicted seconds of all instances together until the batches are through that were taken."""
        now, seconds = self._clock(), 0.0
        for batch in itertools.chain(self._running, self._prepared):
            costs = self.exclusive_costs if batch.exclusive else self.costs
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
        return not (self.requests or self._prepared or self._running)

    @property
    def _free(self) -> int:
        """Instances that no batch has taken."""
        return max(0, self._limits.instances - self._taken_instances)

    def _remove_members(self, batch: Batch) -> None:
        for each in batch.slices:
            self.remove(each.request)

    def _width(self, batch: Batch) -> int:
        return self._limits.instances if batch.exclusive else 1

    def _complete(self) -> bool:
        size = self.max_batch_size
        if self._prepared or self.requests < size or size == 1:  # one row: it might be that of somebody who comes now
            return False
        return sum(1 for _ in itertools.islice(self._queue.stackable(self._clock()), size)) == size

    def _exclusive_is_sooner(self, part: int) -> bool:
        """Whether one exclusive batch of all rows is through before batches of ``part`` rows, one in each instance."""
        if not self._limits.exclusive or self._running or self._prepared or self.rows > self.max_batch_size:
            return False
        return self.exclusive_costs.known and self.exclusive_costs.predict(self.rows) < self.costs.predict(part)

    def _reason(self, slices: list[BatchSlice], limit: int, *, split: bool) -> Dispatch:
        if not self.requests:
            return Dispatch.IDLE
        if count_rows(slices) < limit:
            return Dispatch.SHAPE
        if split:
            return Dispatch.SPLIT
        cut = any(each.request.left for each in slices) and len(slices) > 1
        return Dispatch.FAIRNESS if cut else Dispatch.FULL
