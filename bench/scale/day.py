"""A day of a service that scales: tick by tick, all replicas together.

Not call by call: a day of 10,000 replicas has 3 billion calls. In each second the service is as a steady one of that
utilization (``steady.Profile``, simulated call by call); what exceeds its capacity waits, shared evenly, and what would
wait for too long is refused. A test compares a spike with the same one simulated call by call.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from scale.costs import Cost
from scale.scaler import Policy, Scaler
from scale.steady import Profile

_DAY_SECONDS = 86_400
_METRIC_SECONDS = 30
"""The query is ``avg_over_time(...[30s])``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a new replica waits for. Bandwidths are shared by all that start.

    Attributes:
        schedule_seconds: until its container is made, its node being there.
        image_bytes: pulled; 0 where nodes have it.
        registry_bytes_per_second: of all pulls.
        weights_bytes: read.
        store_bytes_per_second: of all reads.
        node_bytes_per_second: of one node.
        process_seconds: from there until it is ready.
    """

    schedule_seconds: float = 5.0
    image_bytes: float = 0.0
    registry_bytes_per_second: float = 1.25e9
    weights_bytes: float = 110e6
    store_bytes_per_second: float = 1e9
    node_bytes_per_second: float = 1.25e9
    process_seconds: float = 1.9

    def seconds(self, at_once: int) -> float:
        """Until all of so many are ready that begin together."""
        return (
            self.schedule_seconds
            + self.image_bytes / min(self.node_bytes_per_second, self.registry_bytes_per_second / at_once)
            + self.weights_bytes / min(self.node_bytes_per_second, self.store_bytes_per_second / at_once)
            + self.process_seconds
        )


class Fleet:
    """Replicas that are ready and such that start.

    Attributes:
        ready: how many serve.
    """

    def __init__(self, start: Start, ready: int) -> None:
        self.ready = ready
        self._start = start
        self._cohorts: list[list[float]] = []  # replicas, seconds and bytes left

    @property
    def size(self) -> int:
        """All of them."""
        return self.ready + round(sum(cohort[0] for cohort in self._cohorts))

    def resize(self, size: int) -> None:
        """Start replicas, or stop some: first those that are not ready."""
        more = size - self.size
        if more > 0:
            start = self._start
            seconds = start.schedule_seconds + start.process_seconds
            self._cohorts.append([more, seconds, start.image_bytes + start.weights_bytes])
        while more < 0 and self._cohorts:
            taken = min(-more, self._cohorts[-1][0])
            self._cohorts[-1][0] -= taken
            more += round(taken)
            if not self._cohorts[-1][0]:
                self._cohorts.pop()
        self.ready += min(0, more)

    def lose(self, count: int) -> None:
        """Lose replicas that were ready; others take their place."""
        count, size = min(count, self.ready), self.size
        self.ready -= count
        self.resize(size)

    def tick(self) -> None:
        """A second passes."""
        start = self._start
        pulling = sum(count for count, _, left in self._cohorts if left > start.weights_bytes)
        reading = sum(count for count, _, left in self._cohorts if 0 < left <= start.weights_bytes)
        for cohort in self._cohorts:
            count_of_kind, shared = (
                (pulling, start.registry_bytes_per_second)
                if cohort[2] > start.weights_bytes
                else (reading, start.store_bytes_per_second)
            )
            if cohort[2] > 0:
                cohort[2] -= min(start.node_bytes_per_second, shared / count_of_kind)
            else:
                cohort[1] -= 1
        self.ready += round(sum(count for count, seconds, _ in self._cohorts if seconds <= 0))
        self._cohorts = [cohort for cohort in self._cohorts if cohort[1] > 0]


def diurnal(peak: float, *, spike: float = 2.0, spike_at: float = 14 * 3600.0) -> Callable[[float], float]:
    """Images/s over a day: a quarter of the peak at night, and a spike that comes within a minute and stays 15.

    Args:
        peak: without the spike.
        spike: what it multiplies.
        spike_at: when it comes.
    """

    def rate(now: float) -> float:
        usual = peak * (0.625 - 0.375 * math.cos(2 * math.pi * (now - 4 * 3600) / _DAY_SECONDS))
        since = now - spike_at
        if since < 0:
            return usual
        rising, falling = min(1.0, since / 60), max(0.0, 1 - max(0.0, since - 900) / 900)
        return usual * (1 + (spike - 1) * min(rising, falling))

    return rate


@dataclass(slots=True, kw_only=True)
class Account:
    """What a day cost and gave.

    Attributes:
        calls: that were made.
        late: of these, answered later than promised.
        refused: of these, turned away.
        replica_seconds: paid for.
        ready: replicas, second by second.
        offered: images/s, second by second.
        wait: of a call in the queue, second by second, beside that of a steady service.
    """

    calls: float = 0.0
    late: float = 0.0
    refused: float = 0.0
    replica_seconds: float = 0.0
    ready: list[int] = field(default_factory=list)
    offered: list[float] = field(default_factory=list)
    wait: list[float] = field(default_factory=list)

    @property
    def missed(self) -> float:
        """Share of the calls that were late or refused."""
        return (self.late + self.refused) / self.calls

    @property
    def replica_hours(self) -> float:
        """What is paid for."""
        return self.replica_seconds / 3600


def live(  # noqa: PLR0913 - a day has this many parts
    cost: Cost,
    profile: Profile,
    rate: Callable[[float], float],
    policy: Policy,
    *,
    start: Start,
    first: int,
    promise_seconds: float,
    seconds: int = _DAY_SECONDS,
    failures_per_replica_second: float = 0.0,
    seed: int = 0,
) -> Account:
    """Let a service live for a day; returns what it cost and gave."""
    scaler, fleet, account = Scaler(policy), Fleet(start, first), Account()
    speed, chance = cost.images_per_second, np.random.default_rng(seed)
    shown = deque[float](maxlen=_METRIC_SECONDS)
    queue = 0.0
    for now in range(seconds):
        if now % policy.sync_seconds == 0 and shown:
            fleet.resize(scaler.decide(now, fleet.size, sum(shown) / len(shown)))
        if failures_per_replica_second:
            fleet.lose(int(chance.poisson(failures_per_replica_second * fleet.ready)))
        fleet.tick()
        offered, capacity = rate(now), max(fleet.ready, 1e-9) * speed
        queue, refused = _wait(queue, offered - capacity, cost.max_queue_seconds * capacity)
        wait, utilization = queue / capacity, min(offered / capacity, 1.0)
        account.calls += offered
        account.refused += refused
        account.late += (offered - refused) * profile.late(utilization, promise_seconds - wait)
        account.replica_seconds += fleet.size
        account.ready.append(fleet.ready)
        account.offered.append(offered)
        account.wait.append(wait)
        shown.append(fleet.ready * min(profile.backlog(utilization) + wait, cost.max_queue_seconds))
    return account


def _wait(queue: float, surplus: float, most: float) -> tuple[float, float]:
    """Let a second's surplus wait; return what waits, and what is refused."""
    queue = max(0.0, queue + surplus)
    return min(queue, most), max(0.0, queue - most)
