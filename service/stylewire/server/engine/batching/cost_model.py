"""What a batch costs and how far off that guess is: learned while serving, used to refuse what cannot be in time."""

from collections.abc import Iterable

from stylewire.server.running_mean import OUTLIER


class CostModel:
    """Seconds of a batch of n rows, a + b * n, fitted by least squares that forget old batches.

    Predicts 0 until the first batch has run: nothing is refused on a guess.
    """

    _KEEP = 0.95  # weight of the past; a batch counts for about the next twenty

    def __init__(self) -> None:
        self._weight = self._n = self._nn = self._t = self._nt = 0.0
        self._fixed = self._per_row = 0.0

    @classmethod
    def of(cls, runs: Iterable[tuple[int, float]]) -> "CostModel":
        """Learn from batches that ran already, as size and seconds."""
        costs = cls()
        for size, seconds in runs:
            costs.learn(size, seconds)
        return costs

    @property
    def known(self) -> bool:
        """Whether a batch has run."""
        return self._weight > 0

    def learn(self, size: int, seconds: float) -> None:
        """Add a batch that ran."""
        if self.known:
            seconds = min(seconds, OUTLIER * self.predict(size))
        self._weight = self._weight * self._KEEP + 1
        self._n = self._n * self._KEEP + size
        self._nn = self._nn * self._KEEP + size * size
        self._t = self._t * self._KEEP + seconds
        self._nt = self._nt * self._KEEP + size * seconds
        self._fit()

    def predict(self, size: int) -> float:
        """Seconds of a batch of this size."""
        return self._fixed + self._per_row * size

    def predict_rows(self, row_count: int, max_batch_size: int) -> float:
        """Seconds of that many rows in batches as large as possible."""
        full, rest = divmod(row_count, max_batch_size)
        return full * self.predict(max_batch_size) + (self.predict(rest) if rest else 0.0)

    def rows_within(self, seconds: float, most: int) -> int:
        """Rows of the largest batch, up to ``most``, that is through in that time; at least one."""
        if self.predict(most) <= seconds:
            return most
        return max(1, int((seconds - self._fixed) / self._per_row)) if self._per_row else 1

    def _fit(self) -> None:
        mean_size, mean_seconds = self._n / self._weight, self._t / self._weight
        variance = self._nn / self._weight - mean_size**2
        covariance = self._nt / self._weight - mean_size * mean_seconds
        # Batches of one size only tell the cost of a row; neither part of the cost can be negative.
        slope = covariance / variance if variance > 1e-6 * mean_size**2 else mean_seconds / mean_size
        self._per_row = min(max(slope, 0.0), mean_seconds / mean_size)
        self._fixed = mean_seconds - self._per_row * mean_size


class Margin:
    """How much later than predicted answers come: the latest of late, which fades.

    Late ones come in rows. A mean with deviations, as network protocols use it, forgets between two rows and lets the
    queue fill up to the last moment; measured at twice the capacity, a tenth of what ran was then too late.
    """

    _HALF_LIFE_SECONDS = 3.0

    def __init__(self) -> None:
        self._seconds = self._learned_at = 0.0

    def seconds(self, now: float) -> float:
        """What to add to a prediction."""
        return float(self._seconds * 0.5 ** ((now - self._learned_at) / self._HALF_LIFE_SECONDS))

    def learn(self, late_seconds: float, now: float) -> None:
        """Add an answer that came so much later (or, negative, earlier) than predicted."""
        self._seconds, self._learned_at = max(self.seconds(now), late_seconds), now
