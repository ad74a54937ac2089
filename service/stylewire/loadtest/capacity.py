"""From measured steps to a number of replicas: where a service is saturated, and what a target takes."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from stylewire.loadtest.results import Step

LEAST_GAIN = 0.05
"""Twice the callers for less than this is no gain; two such steps in a row are the end."""
_FLAT_STEPS = 2
_SPARE = 1
"""A rolling restart takes one away at a time."""


def is_saturated(speeds: Sequence[float]) -> bool:
    """Return whether the last two steps gained next to nothing."""
    gains = [after <= (1 + LEAST_GAIN) * before for before, after in itertools.pairwise(speeds)]
    return len(gains) >= _FLAT_STEPS and all(gains[-_FLAT_STEPS:])


def find_saturation(steps: Sequence[Step]) -> Step | None:
    """Find the step with the fewest callers after which more of them gained next to nothing; None if all gained."""
    for count in range(_FLAT_STEPS + 1, len(steps) + 1):
        if is_saturated([step.images_per_second for step in steps[:count]]):
            return steps[count - 1 - _FLAT_STEPS]
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The load that a service must carry, and how fast.

    Attributes:
        images_per_second: in all.
        p99_seconds: that a call may take.
        headroom: share of what a replica can do that stays free, for bursts and for replicas that fail.
        gpus_per_replica: 0 on CPUs.
        measured_replicas: how many were behind the address that was measured.
    """

    images_per_second: float
    p99_seconds: float
    headroom: float
    gpus_per_replica: int
    measured_replicas: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The replicas that a target takes.

    Attributes:
        step: the fastest one that keeps the p99, without a failed call.
        replica_images_per_second: of each replica in that step.
        replicas: with one to spare for a rolling restart.
        gpus: of all replicas.
    """

    target: Target
    step: Step
    replica_images_per_second: float
    replicas: int
    gpus: int

    @classmethod
    def make(cls, steps: Sequence[Step], target: Target) -> Self | None:
        """Size the service; None if no step keeps the p99 without a failed call."""
        good = [
            step for step in steps if step.images and not step.failures and step.percentile(99) <= target.p99_seconds
        ]
        if not good:
            return None
        best = max(good, key=lambda step: step.images_per_second)
        speed = best.images_per_second / target.measured_replicas
        needed = max(1, math.ceil(round(target.images_per_second / (speed * (1 - target.headroom)), 6)))
        replicas = needed + _SPARE
        return cls(
            target=target,
            step=best,
            replica_images_per_second=speed,
            replicas=replicas,
            gpus=replicas * target.gpus_per_replica,
        )

    def explain(self) -> str:
        """Return the plan in two lines."""
        target, step, speed = self.target, self.step, self.replica_images_per_second
        usable = speed * (1 - target.headroom)
        if step.callers is None:
            load, advice = f"{step.offered:g} images/s offered", ""
        else:
            load, advice = f"{step.callers} callers", f"; callers that wait flatter the p99: try --open {usable:.3g}"
        gpus = f", {self.gpus} GPUs" if target.gpus_per_replica else ""
        return (
            f"A replica makes {speed:.3g} images/s with a p99 of {step.percentile(99) * 1e3:.0f} ms (at {load}, "
            f"{target.measured_replicas} measured); with {target.headroom:.0%} of it free, {usable:.3g}{advice}.\n"
            f"{target.images_per_second:g} images/s within {target.p99_seconds * 1e3:g} ms take "
            f"{self.replicas - _SPARE} replicas, and one for a rolling restart: {self.replicas} replicas{gpus}."
        )
