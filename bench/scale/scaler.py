"""How many replicas Kubernetes wants: the rules of its HorizontalPodAutoscaler, as KEDA drives it."""

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What ``behavior`` of the HPA allows within a period; the larger of both counts.

    Attributes:
        percent: of the replicas at its start.
        pods: absolutely.
        period_seconds: its length.
    """

    percent: float
    pods: int
    period_seconds: float

    def most(self, replicas: int) -> int:
        """Replicas that may be added or removed within a period."""
        return max(math.ceil(replicas * self.percent / 100), self.pods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The manifest; the defaults are those of deploy/components/autoscaling.

    Attributes:
        target_seconds: of backlog a replica.
        sync_seconds: between two looks.
        least: replicas.
        most: replicas.
        up: how fast it grows.
        down: how fast it shrinks.
        stabilization_seconds: it shrinks to the largest number wanted within that time.
        tolerance: a metric as close as that to its target changes nothing.
    """

    target_seconds: float = 2.0
    sync_seconds: float = 15.0
    least: int = 2
    most: int = 8
    up: Limits = Limits(percent=100, pods=2, period_seconds=60)
    down: Limits = Limits(percent=0, pods=1, period_seconds=120)
    stabilization_seconds: float = 300.0
    tolerance: float = 0.1


class Scaler:
    """Remembers what it wanted and what it changed."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._wanted: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def decide(self, now: float, replicas: int, backlog_seconds: float) -> int:
        """Return the number of replicas from now on.

        Args:
            now: seconds.
            replicas: that there are, those that start included.
            backlog_seconds: of all of them together.
        """
        policy = self._policy
        ratio = backlog_seconds / (policy.target_seconds * replicas)
        close = abs(ratio - 1) <= policy.tolerance
        wanted = replicas if close else math.ceil(backlog_seconds / policy.target_seconds)
        wanted = min(max(wanted, policy.least), policy.most)
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - policy.stabilization_seconds:
            self._wanted.popleft()
        stable = min(replicas, max(number for _, number in self._wanted)) if wanted < replicas else wanted
        allowed = self._within_limits(now, replicas, stable)
        if allowed != replicas:
            self._changes.append((now, allowed - replicas))
        return allowed

    def _within_limits(self, now: float, replicas: int, wanted: int) -> int:
        limits = self._policy.up if wanted > replicas else self._policy.down
        longest = max(self._policy.up.period_seconds, self._policy.down.period_seconds)
        while self._changes and self._changes[0][0] <= now - longest:
            self._changes.popleft()
        recent = [change for moment, change in self._changes if moment > now - limits.period_seconds]
        if wanted > replicas:
            start = replicas - sum(change for change in recent if change > 0)
            return min(wanted, max(replicas, start + limits.most(start)))
        start = replicas - sum(change for change in recent if change < 0)
        return max(wanted, min(replicas, start - limits.most(start)))
