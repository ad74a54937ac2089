"""What a graph has done since its model was loaded, in the numbers that the Open Inference Protocol asks for."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Total:
    """How often something happened, and how long it took altogether."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count it once more."""
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True, kw_only=True)
class GraphStatistics:
    """Counts of one graph, or of all graphs of a model as one.

    Attributes:
        row_count: rows that were answered.
        batch_count: batches that ran.
        answered_at: when a request was answered last, in seconds since 1970; 0 for never.
        success: requests that were answered, and the sum of the four parts of their time.
        fail: requests that were not; their time is taken for whole models only.
        queue: waiting for graphs.
        input: reading what a request holds.
        run: running graphs.
        output: making bytes of what they returned.
        batches: rows of a batch -> runs of that size.
    """

    row_count: int = 0
    batch_count: int = 0
    answered_at: float = 0.0
    success: Total = field(default_factory=Total)
    fail: Total = field(default_factory=Total)
    queue: Total = field(default_factory=Total)
    input: Total = field(default_factory=Total)
    run: Total = field(default_factory=Total)
    output: Total = field(default_factory=Total)
    batches: dict[int, Total] = field(default_factory=dict)
