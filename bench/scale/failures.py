"""Replicas that die, and a rolling restart, call by call."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scale.cluster import Cluster, poisson
from scale.day import Start
from scale.steady import Scene

DRAIN_SECONDS = 5.0
"""The server's default."""
_BEFORE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What an event did.

    Attributes:
        seconds: until all replicas were back.
        before_p99_seconds: of calls before it.
        p99_seconds: of calls while it lasted.
        calls: while it lasted.
        retried: calls sent again.
        failed: calls that had no answer after all retries.
        refused: calls that found queues full.
    """

    name: str
    policy: str
    seconds: float
    before_p99_seconds: float
    p99_seconds: float
    calls: int
    retried: int
    failed: int
    refused: int


def killed(scene: Scene, share: float, start: Start) -> Failure:
    """Kill a share of all replicas at once, as a node or a zone does."""
    count = round(share * scene.replicas)
    seconds = start.seconds(count)

    def plan(cluster: Cluster) -> None:
        for number in range(count):
            cluster.at(_BEFORE_SECONDS, cluster.kill, number, seconds)

    return _run(f"kill {share:.0%} at once", scene, seconds, plan)


def restarted(scene: Scene, away: float, start: Start) -> Failure:
    """Restart all replicas, a share of them at a time, none in advance (maxUnavailable, no maxSurge)."""
    size = max(1, round(away * scene.replicas))
    gone = DRAIN_SECONDS + start.seconds(size)

    def plan(cluster: Cluster) -> None:
        for number in range(scene.replicas):
            cluster.at(_BEFORE_SECONDS + number // size * gone, cluster.drain, number, gone)

    waves = -(-scene.replicas // size)
    return _run(f"restart, {away:.0%} away", scene, waves * gone, plan)


def _run(name: str, scene: Scene, seconds: float, plan: Callable[[Cluster], None]) -> Failure:
    cluster, stop = scene.cluster(), _BEFORE_SECONDS + seconds
    plan(cluster)
    found = cluster.run(poisson(scene.rate, stop, scene.clients), warm_up_seconds=_BEFORE_SECONDS / 2)
    before = found.between(_BEFORE_SECONDS / 2, _BEFORE_SECONDS)
    during = found.between(_BEFORE_SECONDS, stop)
    return Failure(
        name=name,
        policy=scene.policy,
        seconds=seconds,
        before_p99_seconds=float(np.percentile(before, 99)),
        p99_seconds=float(np.percentile(during, 99)),
        calls=len(during) + found.failed + found.refused,
        retried=found.retried,
        failed=found.failed,
        refused=found.refused,
    )
