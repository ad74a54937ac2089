"""Measurements in turns: shared machines drift, so only neighbors in time are compared."""

import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of some values with their range; prints as ``1.02 (0.95 to 1.19)``.

    Attributes:
        median: of all.
        least: of all.
        most: of all.
    """

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarize the values of all rounds."""
        return cls(median=statistics.median(values), least=min(values), most=max(values))

    def __format__(self, form: str) -> str:
        form = form or ".2f"
        return f"{self.median:{form}} ({self.least:{form}} to {self.most:{form}})"

    def __str__(self) -> str:
        return format(self)


def take_turns(measures: Mapping[K, Callable[[], T]], rounds: Iterable[int]) -> dict[K, list[T]]:
    """Measure all in every round; every other round is backward, so that nobody always follows the same neighbor.

    Args:
        measures: key -> what measures it once.
        rounds: their numbers, such as ``range(5)``.

    Returns:
        Key -> what it measured, a value a round.
    """
    results: dict[K, list[T]] = {key: [] for key in measures}
    for number in rounds:
        for key in reversed(measures) if number % 2 else measures:
            results[key].append(measures[key]())
    return results


def seconds_per_run(run: Callable[[], object], count: int = 1, clock: Callable[[], float] = time.perf_counter) -> float:
    """Run ``count`` times and return the mean seconds of a run by ``clock``."""
    started = clock()
    for _ in range(count):
        run()
    return (clock() - started) / count


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Divide round by round: a slow phase of the machine touches both."""
    return [value / other for value, other in zip(values, base, strict=True)]
