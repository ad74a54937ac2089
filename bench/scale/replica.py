"""One replica: the rules of ``engine.batching.scheduler`` for calls of one row, with nothing but times.

A test compares it with the real scheduler, batch for batch.
"""

import math
import random
from collections import deque
from dataclasses import dataclass, field

from scale.costs import Cost


@dataclass(slots=True, eq=False)
class Call:
    """A call that waits, runs, or has ended.

    Attributes:
        due: when its caller sent it, the first time.
        client: who sent it.
        tries: how often it was sent.
    """

    due: float
    client: int
    tries: int = 1


@dataclass(slots=True, eq=False)
class Batch:
    """Calls that run together, until a moment."""

    calls: list[Call]
    ends: float
    width: int
    expected_end: float


@dataclass(slots=True, eq=False)
class Replica:
    """A queue and the batches that run.

    Attributes:
        up: whether it takes calls.
        life: counts its deaths; a batch of an earlier life never ends.
    """

    cost: Cost
    chance: random.Random
    up: bool = True
    life: int = 0
    queue: deque[Call] = field(default_factory=deque)
    running: list[Batch] = field(default_factory=list)
    busy: int = 0

    def wait(self, now: float) -> float:
        """Predict the wait of a call that comes now."""
        if not self.busy:
            return 0.0
        cost, free = self.cost, self.cost.instances - self.busy
        remaining = sum(batch.width * max(0.0, batch.expected_end - now) for batch in self.running)
        full, rest = divmod(len(self.queue), cost.max_batch_size)
        queued = full * cost.batch_seconds(cost.max_batch_size) + (cost.batch_seconds(rest) if rest else 0.0)
        return (queued + (0.0 if free and not self.queue else remaining)) / cost.instances

    def backlog_seconds(self, now: float) -> float:
        """What ``stylewire_backlog_seconds`` shows."""
        cost = self.cost
        remaining = sum(batch.width * max(0.0, batch.expected_end - now) for batch in self.running)
        full, rest = divmod(len(self.queue), cost.max_batch_size)
        queued = full * cost.batch_seconds(cost.max_batch_size) + (cost.batch_seconds(rest) if rest else 0.0)
        return (queued + remaining) / cost.instances

    def take(self, now: float) -> Batch | None:
        """Start the next batch; None if there is nothing to run, or no instance."""
        cost, free, rows = self.cost, self.cost.instances - self.busy, len(self.queue)
        if not free or not rows:
            return None
        size = min(cost.max_batch_size, -(-rows // free))
        exclusive = cost.alone_seconds is not None and not self.busy and rows == 1
        expected = cost.alone_seconds if exclusive and cost.alone_seconds is not None else cost.batch_seconds(size)
        calls = [self.queue.popleft() for _ in range(size)]
        width = cost.instances if exclusive else 1
        batch = Batch(calls, now + expected * self._luck(), width, now + expected)
        self.running.append(batch)
        self.busy += width
        return batch

    def finish(self, batch: Batch) -> None:
        """Free the instance of a batch."""
        self.running.remove(batch)
        self.busy -= batch.width

    def die(self) -> list[Call]:
        """Lose everything; returns the calls that are lost."""
        lost = [call for batch in self.running for call in batch.calls] + list(self.queue)
        self.queue.clear()
        self.running.clear()
        self.busy, self.up, self.life = 0, False, self.life + 1
        return lost

    def _luck(self) -> float:
        """Draw a factor of mean 1: log-normal, as run times with rare long ones are."""
        if not self.cost.deviation:
            return 1.0
        sigma = math.sqrt(math.log1p(self.cost.deviation**2))
        return self.chance.lognormvariate(-sigma * sigma / 2, sigma)
