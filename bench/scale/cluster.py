"""Replicas behind a balancer, call by call: a heap of events, about 6 us of Python a call."""

import heapq
import itertools
import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from scale.balancing import Balancer
from scale.costs import Cost
from scale.replica import Batch, Call, Replica

_BACKOFF_SECONDS = 0.2
"""Of the SDK's retries after UNAVAILABLE; the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How callers take a no.

    Attributes:
        tries: calls of one request after UNAVAILABLE, as the SDK's retry policy has it.
        refusal_tries: the same after RESOURCE_EXHAUSTED, which the SDK leaves to its caller; each waits as it says.
    """

    tries: int = 4
    refusal_tries: int = 1


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of the calls that were due after the warm-up.

    Attributes:
        due: moments of those that were answered.
        seconds: their latencies.
        refused: calls that got no picture since queues were full.
        failed: calls that were lost with their replica, or found none.
        retried: times that a call was sent again.
    """

    due: "array[float]" = field(default_factory=lambda: array("d"))
    seconds: "array[float]" = field(default_factory=lambda: array("d"))
    refused: int = 0
    failed: int = 0
    retried: int = 0

    def percentile(self, rank: float) -> float:
        """Of the latencies, in seconds."""
        return float(np.percentile(np.frombuffer(self.seconds), rank)) if self.seconds else float("nan")

    def between(self, start: float, stop: float) -> "np.ndarray":
        """Latencies of calls that were due in that time."""
        due, seconds = np.frombuffer(self.due), np.frombuffer(self.seconds)
        return seconds[(due >= start) & (due < stop)]

    @property
    def calls(self) -> int:
        """All that were made."""
        return len(self.seconds) + self.refused + self.failed


class Cluster:
    """A service in simulated time.

    Attributes:
        replicas: all that there are.
        now: the simulated time.
    """

    def __init__(
        self,
        cost: Cost,
        count: int,
        make_balancer: Callable[[list[Replica], random.Random], Balancer],
        *,
        seed: int = 0,
        patience: Patience | None = None,
    ) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - the same course every time
        self.replicas = [Replica(cost, self._chance) for _ in range(count)]
        self._balancer = make_balancer(self.replicas, self._chance)
        self._patience = patience or Patience()
        self._cost, self._sure_rows = cost, cost.sure_rows
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = itertools.count()
        self._warm = 0.0
        self.now = 0.0
        self.outcome = Outcome()

    def at(self, moment: float, do: Callable[..., None], *arguments: object) -> None:
        """Let something happen at a moment."""
        heapq.heappush(self._events, (moment, next(self._order), do, arguments))

    def run(self, arrivals: Iterator[tuple[float, int]], *, warm_up_seconds: float = 0.0) -> Outcome:
        """Send calls (moment, client), in order, until there are no more and all have ended."""
        self._warm, events = warm_up_seconds, self._events
        for moment, client in arrivals:
            while events and events[0][0] <= moment:
                self._step()
            self.now = moment
            self._send(Call(moment, client))
        while events:
            self._step()
        return self.outcome

    def backlog_seconds(self) -> float:
        """Mean of what the replicas show."""
        return sum(each.backlog_seconds(self.now) for each in self.replicas) / len(self.replicas)

    def kill(self, number: int, back_after_seconds: float) -> None:
        """Lose a replica and what it had; another one takes its place after a while."""
        lost = self.replicas[number].die()
        self._balancer.changed()
        for call in lost:
            self._balancer.done(call.client, number)
            self._lost(call)
        self.at(self.now + back_after_seconds, self._revive, number)

    def drain(self, number: int, back_after_seconds: float) -> None:
        """Send a replica no more calls, let it finish; another one takes its place after a while."""
        self.replicas[number].up = False
        self._balancer.changed()
        self.at(self.now + back_after_seconds, self._revive, number)

    def _step(self) -> None:
        self.now, _, do, arguments = heapq.heappop(self._events)
        do(*arguments)

    def _revive(self, number: int) -> None:
        self.replicas[number].up = True
        self._balancer.changed()

    def _send(self, call: Call) -> None:
        number = self._balancer.choose(call.client)
        if number is None:
            self._lost(call)
            return
        replica = self.replicas[number]
        if len(replica.queue) >= self._sure_rows:
            wait = replica.wait(self.now)
            if wait > self._cost.max_queue_seconds:
                self._refuse(call, wait)
                return
        self._balancer.sent(call.client, number)
        replica.queue.append(call)
        if replica.busy < self._cost.instances:
            self._fill(number, replica)

    def _fill(self, number: int, replica: Replica) -> None:
        while (batch := replica.take(self.now)) is not None:
            self.at(batch.ends, self._end, number, replica.life, batch)

    def _end(self, number: int, life: int, batch: Batch) -> None:
        replica = self.replicas[number]
        if replica.life != life:
            return
        replica.finish(batch)
        overhead, done = self._cost.overhead_seconds, self._balancer.done
        for call in batch.calls:
            done(call.client, number)
            if call.due >= self._warm:
                self.outcome.due.append(call.due)
                self.outcome.seconds.append(self.now + overhead - call.due)
        if replica.queue:
            self._fill(number, replica)

    def _refuse(self, call: Call, wait: float) -> None:
        if call.tries < self._patience.refusal_tries:
            self._again(call, max(0.0, wait - self._cost.max_queue_seconds / 2))
        elif call.due >= self._warm:
            self.outcome.refused += 1

    def _lost(self, call: Call) -> None:
        if call.tries < self._patience.tries:
            self._again(call, self._chance.uniform(0, _BACKOFF_SECONDS * 2 ** (call.tries - 1)))
        elif call.due >= self._warm:
            self.outcome.failed += 1

    def _again(self, call: Call, seconds: float) -> None:
        call.tries += 1
        self.outcome.retried += 1
        self.at(self.now + seconds, self._send, call)


def poisson(rate: float, seconds: float, clients: int, seed: int = 0) -> Iterator[tuple[float, int]]:
    """Calls at random moments, from random clients."""
    draw, now = np.random.default_rng(seed), 0.0
    while now < seconds:
        moments = now + np.cumsum(draw.exponential(1 / rate, 10_000))
        whose = draw.integers(clients, size=len(moments))
        yield from zip(moments[moments < seconds].tolist(), whose.tolist(), strict=False)
        now = float(moments[-1])
