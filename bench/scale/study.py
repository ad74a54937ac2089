"""The tables: each function simulates what one of them shows, and returns its rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from scale.costs import Cost
from scale.day import Account, Start, diurnal, live
from scale.failures import Failure, killed, restarted
from scale.scaler import Limits, Policy
from scale.steady import UTILIZATIONS, Point, Profile, Scene, balancers, point

PEAK_UTILIZATION = 0.7
"""Of the replicas that a static service has, at the peak of a usual day."""
TARGETS_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Thresholds of the autoscaler; 2 is that of deploy/components/autoscaling."""
PROMISED_RUNS = 5
"""A call shall take no longer than so many runs of the largest batch."""
_PERCENT = {
    "up": Limits(percent=100, pods=4, period_seconds=15),
    "down": Limits(percent=10, pods=1, period_seconds=60),
}
_FAILURES = 1 / (30 * 86_400)
"""A replica fails once in a month."""
_FAILURE_UTILIZATION = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A day with one autoscaler; ``static`` replicas would have done for its peak without a spike."""

    static: int
    rules: str
    target_seconds: float
    account: Account


def steady(cost: Cost, sizes: Sequence[int], least_calls: int) -> list[Point]:
    """Latency by utilization, size and policy."""
    return [
        point(Scene(cost=cost, replicas=size, policy=policy, utilization=utilization), least_calls)
        for size in sizes
        for policy in balancers(1)
        for utilization in UTILIZATIONS
    ]


def days(cost: Cost, profile: Profile, sizes: Sequence[int], start: Start) -> list[Day]:
    """Days with autoscalers of all thresholds; the shipped rules, and such that move in percent."""
    rules = {"shipped": {}, "percent": _PERCENT}
    return [
        Day(
            static=size,
            rules=name,
            target_seconds=target,
            account=day(cost, profile, size, Policy(target_seconds=target, most=4 * size, **rule), start),
        )
        for size in sizes
        for name, rule in rules.items()
        for target in TARGETS_SECONDS
    ]


def day(cost: Cost, profile: Profile, static: int, policy: Policy, start: Start) -> Account:
    """One day of a service whose peak would fill ``static`` replicas to 70 %, with a spike that doubles it."""
    return live(
        cost,
        profile,
        diurnal(PEAK_UTILIZATION * static * cost.images_per_second),
        policy,
        start=start,
        first=max(policy.least, static // 3),
        promise_seconds=promise(cost),
        failures_per_replica_second=_FAILURES,
    )


def promise(cost: Cost) -> float:
    """Seconds that a call may take."""
    return PROMISED_RUNS * cost.batch_seconds(cost.max_batch_size)


def failures(cost: Cost, size: int, start: Start) -> list[Failure]:
    """Replicas that die and rolling restarts."""
    found = []
    for policy in balancers(1):
        scene = Scene(cost=cost, replicas=size, policy=policy, utilization=_FAILURE_UTILIZATION)
        found += [killed(scene, share, start) for share in (0.1, 0.33)]
        found.append(restarted(scene, 0.25, start))
    return found
