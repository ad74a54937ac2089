"""What became of many inputs, in numbers that add up over processes."""

import heapq
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tables import Table

_SLOWEST = 5


def resident_bytes() -> int:
    """Memory of this process."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Report:
    """What became of inputs.

    Attributes:
        outcomes: how many of each kind got each status.
        slowest: (seconds, number, kind, status).
        findings: number -> what is wrong.
        seconds: spent by all inputs.
        memory: (inputs so far, bytes) of one process.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    slowest: list[tuple[float, int, str, str]] = field(default_factory=list)
    findings: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    memory: list[tuple[int, int]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many inputs there were."""
        return self.outcomes.total()

    def add(self, number: int, kind: str, code: str, seconds: float, finding: str) -> None:
        """Count an input."""
        self.outcomes[kind, code] += 1
        self.seconds += seconds
        self._keep([(seconds, number, kind, code)])
        if finding:
            self.findings[number] = finding

    def merge(self, other: "Report") -> None:
        """Add what another process found."""
        self.outcomes += other.outcomes
        self.findings |= other.findings
        self.seconds += other.seconds
        self._keep(other.slowest)

    def _keep(self, more: list[tuple[float, int, str, str]]) -> None:
        if len(self.slowest) == _SLOWEST and len(more) == 1 and more[0] < self.slowest[-1]:
            return
        self.slowest = heapq.nlargest(_SLOWEST, [*self.slowest, *more])

    def table(self) -> str:
        """Write the outcomes as a table: kinds down, statuses across."""
        codes = sorted({code for _, code in self.outcomes})
        kinds = sorted({kind for kind, _ in self.outcomes})
        rows = [(kind, *(self.outcomes[kind, code] for code in codes)) for kind in kinds]
        totals = ("all", *(sum(self.outcomes[kind, code] for kind in kinds) for code in codes))
        return Table("kind:<12", *(f"{code.lower()}:>7" for code in codes), indent="  ").text([*rows, totals])


def memory_line(name: str, memory: list[tuple[int, int]]) -> str:
    """Say how memory went: at the start, at the half, at the end, and how much an input of the second half kept."""
    (_, first), (_, last) = memory[0], memory[-1]
    half_count, half = memory[len(memory) // 2]
    per_input = (last - half) / max(1, memory[-1][0] - half_count)
    mebibytes = " -> ".join(f"{each / 2**20:.0f}" for each in (first, half, last))
    return f"  {name}: {mebibytes} MiB; {per_input:.1f} bytes an input in the second half"
