"""What one unit of work costs, learned from those that were done: steps of projections, searches for faces.

Batches, whose cost depends on their size, have ``engine/batching/cost_model.py``.
"""

import math

OUTLIER = 4.0
"""Work counts for at most so many times its prediction: one stall of the machine must not refuse a minute's work."""
_LATEST_WEIGHT = 0.2
"""How much the latest unit counts against all before it."""


class RunningMean:
    """The mean of the latest few.

    Args:
        first_seconds: what is predicted until something has been done; None predicts 0 and takes the first for the
            mean.
        outlier: bound of what counts, as a multiple of the mean.

    Attributes:
        seconds: the mean, which is the prediction of the next one.
    """

    def __init__(self, first_seconds: float | None = None, *, outlier: float = math.inf) -> None:
        self.seconds = first_seconds or 0.0
        self._known, self._outlier = first_seconds is not None, outlier

    def learn(self, seconds: float) -> None:
        """Add a unit of work that was done."""
        if self._known:
            seconds = self.seconds + _LATEST_WEIGHT * (min(seconds, self._outlier * self.seconds) - self.seconds)
        self.seconds, self._known = seconds, True
