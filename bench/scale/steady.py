"""Latency under a load that stays the same: by utilization, size of the service, and balancing."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from scale.balancing import Balancer, LeastRequest, PickFirst, RoundRobin
from scale.cluster import Cluster, Outcome, poisson
from scale.costs import Cost
from scale.replica import Replica

CLIENTS_PER_REPLICA = 5
PROXIES = 4
"""Of an Envoy in front of the service; each counts its own calls only."""
UTILIZATIONS = (0.3, 0.5, 0.7, 0.8, 0.9)
_PROFILED = (0.05, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
_MEASURED_RUNS = 50
"""After the warm-up: a queue forgets its start in about run / (1 - utilization)^2."""
_LOOKS = 100

Maker = Callable[[list[Replica], random.Random], Balancer]


def balancers(clients: int) -> dict[str, Maker]:
    """Name -> maker of each policy."""
    return {
        "pick_first": lambda replicas, chance: PickFirst(replicas, clients, chance),
        "round_robin": lambda replicas, chance: RoundRobin(replicas, clients, chance),
        "least_request": lambda replicas, chance: LeastRequest(replicas, chance, PROXIES),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One service under one load.

    Attributes:
        refused: share of the calls.
        calls: measured.
    """

    replicas: int
    policy: str
    utilization: float
    p50_seconds: float
    p99_seconds: float
    refused: float
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A service and its load; utilization is that load over what all replicas can do together."""

    cost: Cost
    replicas: int
    policy: str
    utilization: float

    @property
    def clients(self) -> int:
        """Processes that call."""
        return CLIENTS_PER_REPLICA * self.replicas

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.utilization * self.replicas * self.cost.images_per_second

    def cluster(self) -> Cluster:
        """Make the service."""
        return Cluster(self.cost, self.replicas, balancers(self.clients)[self.policy])


def point(scene: Scene, least_calls: int) -> Point:
    """Simulate one service under one load."""
    found = simulate(scene, least_calls)
    return Point(
        replicas=scene.replicas,
        policy=scene.policy,
        utilization=scene.utilization,
        p50_seconds=found.percentile(50),
        p99_seconds=found.percentile(99),
        refused=found.refused / max(1, found.calls),
        calls=found.calls,
    )


def simulate(scene: Scene, least_calls: int, looks: list[float] | None = None) -> Outcome:
    """Simulate until so many calls are measured; ``looks`` gets the mean backlog of a replica, a hundred times."""
    run = scene.cost.batch_seconds(scene.cost.max_batch_size)
    warm = run / (1 - scene.utilization) ** 2 + run
    seconds = warm + max(_MEASURED_RUNS * run, least_calls / scene.rate)
    cluster = scene.cluster()
    if looks is not None:
        for moment in np.linspace(warm, seconds, _LOOKS):
            cluster.at(float(moment), lambda: looks.append(cluster.backlog_seconds()))
    return cluster.run(poisson(scene.rate, seconds, scene.clients), warm_up_seconds=warm)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a service of one size does at every utilization: the table that ``day.py`` works with.

    Attributes:
        utilizations: from low to high.
        latencies: of each, a thousand quantiles in seconds.
        backlogs: of each, mean seconds a replica shows.
    """

    utilizations: Sequence[float]
    latencies: "np.ndarray"
    backlogs: "np.ndarray"

    @classmethod
    def of(cls, cost: Cost, *, replicas: int = 50, policy: str = "round_robin", least_calls: int = 40_000) -> Self:
        """Simulate all utilizations, with the backlog looked at as a monitor does."""
        latencies, backlogs = list[np.ndarray](), list[float]()
        for utilization in _PROFILED:
            looks = list[float]()
            scene = Scene(cost=cost, replicas=replicas, policy=policy, utilization=utilization)
            found = simulate(scene, least_calls, looks)
            latencies.append(np.quantile(np.frombuffer(found.seconds), np.linspace(0, 1, 1001)))
            backlogs.append(sum(looks) / len(looks))
        return cls(_PROFILED, np.array(latencies), np.array(backlogs))

    def backlog(self, utilization: float) -> float:
        """Mean seconds that a replica shows."""
        return float(np.interp(utilization, self.utilizations, self.backlogs))

    def late(self, utilization: float, seconds: float) -> float:
        """Share of the calls that take longer than that."""
        shares = [1 - np.searchsorted(row, seconds) / len(row) for row in self.latencies]
        return float(np.interp(utilization, self.utilizations, shares))

    def quantile(self, utilization: float, rank: float) -> float:
        """Seconds that so many percent of the calls do not exceed."""
        return float(np.interp(utilization, self.utilizations, np.percentile(self.latencies, rank, axis=1)))
