"""What a batch costs: learned while serving, used to refuse what cannot be done in time."""


class CostModel:
    """Seconds of a batch of n rows, a + b * n, fitted by least squares that forget old batches.

    Predicts 0 until the first batch has run: nothing is refused on a guess.
    """

    _KEEP = 0.95  # weight of the past; a batch counts for about the next twenty

    def __init__(self) -> None:
        self._weight = self._n = self._nn = self._t = self._nt = 0.0

    def learn(self, size: int, seconds: float) -> None:
        """Add a batch that ran."""
        self._weight = self._weight * self._KEEP + 1
        self._n = self._n * self._KEEP + size
        self._nn = self._nn * self._KEEP + size * size
        self._t = self._t * self._KEEP + seconds
        self._nt = self._nt * self._KEEP + size * seconds

    def predict(self, size: int) -> float:
        """Seconds of a batch of this size."""
        if not self._weight:
            return 0.0
        mean_size, mean_seconds = self._n / self._weight, self._t / self._weight
        variance = self._nn / self._weight - mean_size**2
        covariance = self._nt / self._weight - mean_size * mean_seconds
        # Batches of one size only tell the cost of a row; neither part of the cost can be negative.
        slope = covariance / variance if variance > 1e-6 * mean_size**2 else mean_seconds / mean_size
        slope = min(max(slope, 0.0), mean_seconds / mean_size)
        return mean_seconds + slope * (size - mean_size)

    def predict_rows(self, row_count: int, max_batch_size: int) -> float:
        """Seconds of that many rows in batches as large as possible."""
        full, rest = divmod(row_count, max_batch_size)
        return full * self.predict(max_batch_size) + (self.predict(rest) if rest else 0.0)
