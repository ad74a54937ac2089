"""What a replica costs in time: measured by ``stylewire bench --json``, or assumed and marked so."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

MAX_BATCH_SIZE, MAX_BATCH_SECONDS, MAX_QUEUE_SECONDS = 8, 0.25, 10.0
"""The server's own defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A replica's times; it behaves as ``stylewire.server.engine.batching.scheduler`` with these limits.

    Attributes:
        name: for tables.
        origin: where the numbers are from.
        fixed_seconds: of a batch of any size in one instance, all instances busy.
        row_seconds: what each row adds.
        instances: batches that run at once.
        alone_seconds: of one row that has the whole device; None where an instance is the whole device.
        max_batch_size: rows, given their time.
        max_queue_seconds: predicted wait at which calls are refused.
        overhead_seconds: of a call, beside wait and run: wire, Python, pictures.
        deviation: standard deviation of a run over its mean.
    """

    name: str
    origin: str
    fixed_seconds: float
    row_seconds: float
    instances: int = 1
    alone_seconds: float | None = None
    max_batch_size: int = 1
    max_queue_seconds: float = MAX_QUEUE_SECONDS
    overhead_seconds: float = 0.0
    deviation: float = 0.0

    def batch_seconds(self, size: int) -> float:
        """Mean run time of a batch in one instance."""
        return self.fixed_seconds + self.row_seconds * size

    @property
    def images_per_second(self) -> float:
        """The most that a replica can do."""
        return self.instances * self.max_batch_size / self.batch_seconds(self.max_batch_size)

    @property
    def sure_rows(self) -> int:
        """With fewer rows in the queue no call is refused, so nobody has to compute the wait."""
        longest = max(self.batch_seconds(self.max_batch_size), self.alone_seconds or 0.0)
        return max(0, int(self.instances * (self.max_queue_seconds - longest) / self.batch_seconds(1)))

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Self:
        """Fit the steps of a closed loop; where batches run side by side, those in which they did.

        Raises:
            ValueError: the report has none.
        """
        steps = [step for step in report["steps"] if step["callers"] and step["batches"] and step["complete"]]
        if not steps:
            raise ValueError("the report has no step of a closed loop; run stylewire bench without --open")
        saturated = report["saturated_at_callers"] is not None
        instances = max(1, round(_batches_at_once(steps[-1])))
        busy = [step for step in steps if step["callers"] >= instances]
        batches = [batch for step in busy for batch in step["batches"]]
        fixed, row = _fit(batches)
        first = steps[0]
        alone = first["inference_ms"] / 1e3 if first["callers"] == 1 and instances > 1 else None
        model = report["model"]
        cost = cls(
            name=f"{model['name']} {model['resolution_px']} px, {model['backend']} {model['device']}",
            origin="measured by stylewire bench",
            fixed_seconds=fixed,
            row_seconds=row,
            instances=instances,
            alone_seconds=alone,
            max_batch_size=_rows_within(fixed, row),
            overhead_seconds=max(0.0, first["latency_mean_ms"] - first["queue_ms"] - first["inference_ms"]) / 1e3,
            deviation=_deviation(batches),
        )
        return cost.slowed_to(max(step["images_per_second"] for step in steps)) if saturated else cost

    def slowed_to(self, images_per_second: float) -> Self:
        """Count what lies between batches as their time: a saturated replica did not make more than that."""
        factor = max(1.0, self.images_per_second / images_per_second)
        return replace(self, fixed_seconds=factor * self.fixed_seconds, row_seconds=factor * self.row_seconds)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a report of ``stylewire bench --json``, or the fields of a cost."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls.from_report(found) if "steps" in found else cls(**found)


def _fit(batches: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Least squares of a + b * size, each batch once; a and b are not negative."""
    weights = [batch["answers"] / batch["size"] for batch in batches]
    total = sum(weights)
    size = sum(w * b["size"] for w, b in zip(weights, batches, strict=True)) / total
    seconds = sum(w * b["inference_ms"] for w, b in zip(weights, batches, strict=True)) / total / 1e3
    spread = sum(w * (b["size"] - size) ** 2 for w, b in zip(weights, batches, strict=True))
    if not spread:
        return (0.0, seconds / size)
    both = sum(
        w * (b["size"] - size) * (b["inference_ms"] / 1e3 - seconds) for w, b in zip(weights, batches, strict=True)
    )
    row = min(max(both / spread, 0.0), seconds / size)
    return seconds - row * size, row


def _deviation(batches: Sequence[Mapping[str, float]]) -> float:
    answers = sum(batch["answers"] for batch in batches)
    squares = sum(batch["answers"] * (batch["deviation_ms"] / batch["inference_ms"]) ** 2 for batch in batches)
    return math.sqrt(squares / answers)


def _batches_at_once(step: Mapping[str, Any]) -> float:
    """By Little's law: the rate of batches times the time that one runs."""
    rate = sum(batch["answers"] / batch["size"] for batch in step["batches"]) / step["seconds"]
    return rate * step["inference_ms"] / 1e3


def _rows_within(fixed: float, row: float) -> int:
    """As ``CostModel.rows_within``."""
    if fixed + row * MAX_BATCH_SIZE <= MAX_BATCH_SECONDS:
        return MAX_BATCH_SIZE
    return max(1, int((MAX_BATCH_SECONDS - fixed) / row)) if row else 1


COSTS = {
    "cpu256": Cost(
        name="256 px (14.9 GMAC), onnxruntime, two cores",
        origin="measured: make bench-serving (194 ms a batch, one row fits into 0.25 s), stylewire bench (overhead)",
        fixed_seconds=0.0,
        row_seconds=0.194,
        max_batch_size=1,
        overhead_seconds=0.003,
        deviation=0.15,
    ),
    "gpu256-assumed": Cost(
        name="256 px on a GPU",
        origin="ASSUMED, no GPU was measured: 4 ms a batch and 1.5 ms a row",
        fixed_seconds=0.004,
        row_seconds=0.0015,
        max_batch_size=8,
        overhead_seconds=0.003,
        deviation=0.05,
    ),
}
"""Shipped; measure yours."""
