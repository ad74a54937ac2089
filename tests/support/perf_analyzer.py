"""A real perf_analyzer, as ``.ci/fetch-perf-analyzer`` has unpacked it, and what it prints."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent.parent / "build" / "perf-analyzer" / "perf_analyzer"
_STEP = re.compile(
    r"Request concurrency: (?P<concurrency>\d+)\n  Client: \n    Request count: (?P<requests>\d+)\n"
    r"    Throughput: (?P<throughput>[\d.]+) infer/sec\n.*?"
    r"  Server: \n    Inference count: (?P<rows>\d+)\n    Execution count: (?P<batches>\d+)\n"
    r"    Successful request count: (?P<answered>\d+)\n"
    r"    Avg request latency: (?P<latency>\d+) usec \(overhead (?P<overhead>\d+) usec \+ queue (?P<queue>\d+) usec \+ "
    r"compute input (?P<input>\d+) usec \+ compute infer (?P<infer>\d+) usec \+ compute output (?P<output>\d+) usec\)",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What it says of one concurrency: of its own calls, and of the server's statistics meanwhile; times in us."""

    concurrency: int
    requests: int
    throughput: float
    rows: int
    batches: int
    answered: int
    latency: int
    overhead: int
    queue: int
    input: int
    infer: int
    output: int


def measure(address: str, model: str, *arguments: str, timeout_seconds: float = 120) -> list[Step]:
    """Run it; skips the test where there is none, and fails it with what it says if it does not like something."""
    if not PROGRAM.exists():
        pytest.skip("perf_analyzer is not in build/perf-analyzer; .ci/fetch-perf-analyzer says why")
    command = [str(PROGRAM), "-i", "grpc", "-u", address, "-m", model, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    steps = [{key: float(value) for key, value in found.groupdict().items()} for found in _STEP.finditer(ended.stdout)]
    assert steps, ended.stdout + ended.stderr
    return [
        Step(**{key: value if key == "throughput" else int(value) for key, value in each.items()}) for each in steps
    ]
