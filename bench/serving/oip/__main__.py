"""Measure perf_analyzer's throughput on one graph: here, and on tritonserver's Python backend with onnxruntime.

All servers are up all the time and are measured in turns, every other round backward; a ratio is of one round. Beside
throughput there is the processor time of a call, which says more where others use the machine too. Triton is measured
with two instances of one thread each, as this server runs small graphs, and with one of two threads.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import tritonclient.grpc as triton_client

from interleave import Spread, ratios, take_turns
from serving.models import demo, seeded
from serving.process import serving
from stylewire.manifest import Manifest
from support.perf_analyzer import measure
from support.triton import RunningTriton
from tables import Table, write_json

OURS, AGAIN = "stylewire", "stylewire again"
TRITONS = {"triton 2 x 1": (2, 1), "triton 1 x 2": (1, 2)}
"""Name -> instances, threads of each."""
CONFIG = """
backend: "python"
max_batch_size: 64
input [{{ name: "w_plus", data_type: TYPE_FP32, dims: [{layer_count}, {w_dim}] }}]
output [{{ name: "pixels", data_type: TYPE_UINT8, dims: [{side}, {side}, {channels}] }}]
instance_group [{{ kind: KIND_CPU, count: {instances} }}]
dynamic_batching {{ }}
parameters [
  {{ key: "graph", value: {{ string_value: "{graph}" }} }},
  {{ key: "threads", value: {{ string_value: "{threads}" }} }}
]
"""
TABLE = Table("model:>8", "calls:>", "here:>10", *(f"{name}:>22" for name in (AGAIN, *TRITONS)))


class Candidate(NamedTuple):
    """A server that runs.

    Attributes:
        address: host and port.
        model: what the graph is called there.
        processes: returns the ids of its processes.
    """

    address: str
    model: str
    processes: Callable[[], list[int]]


class Turn(NamedTuple):
    """What one turn gave.

    Attributes:
        throughput: calls a second.
        processor_ms: processor time of the server, a call.
        batch: rows of a batch.
    """

    throughput: float
    processor_ms: float
    batch: float


def main() -> None:
    """Run ``make bench-oip``."""
    parser = argparse.ArgumentParser(prog="serving.oip", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each; the table has the medians")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], metavar="PX", help="64 is the demo model")
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 4, 16], help="calls in flight at once")
    parser.add_argument("--backend", default="onnxruntime", help="of this server; auto is what users get")
    parser.add_argument("--requests", type=int, default=50, help="of a window; perf_analyzer takes three a turn")
    parser.add_argument("--out", type=Path, default=Path("build/bench/oip.json"))
    options = parser.parse_args()
    print(
        "over the column: median of interleaved ratios (lowest to highest); of throughput more is better, of time less"
    )
    TABLE.print_headings()
    rows = []
    for size_px in options.sizes:
        directory = demo() if size_px == 64 else seeded(size_px)
        with servers(directory, options.backend) as candidates:
            for calls in options.calls:
                rows.append(compare(candidates, calls, options.rounds, options.requests) | {"model_px": size_px})
                for cells in to_rows(rows[-1]):
                    TABLE.print_row(*cells)
    write_json(options.out, rows)


@contextlib.contextmanager
def servers(directory: Path, backend: str) -> Iterator[dict[str, Candidate]]:
    """Serve a model everywhere."""
    manifest = Manifest.read(directory)
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(
            serving(directory, "--threads", "2", "--max-queue-seconds", "60", "--backend", backend)
        )
        here = Candidate(own.address, f"{manifest.name}.synthesis", lambda: [own.pid])
        found = {OURS: here, AGAIN: here}
        for name, (instances, threads) in TRITONS.items():
            repository = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_repository(repository, directory, manifest, instances, threads)
            triton = RunningTriton(repository)
            stack.callback(triton.close)
            found[name] = Candidate(triton.grpc_address, "synthesis", partial(session, triton.pid))
        yield found


def write_repository(repository: Path, directory: Path, manifest: Manifest, instances: int, threads: int) -> None:
    """Write a model repository with the one model ``synthesis``."""
    version = repository / "synthesis" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(Path(__file__).with_name("model.py").read_text(encoding="utf-8"))
    config = CONFIG.format(
        layer_count=manifest.layer_count,
        w_dim=manifest.w_dim,
        side=manifest.resolution_px,
        channels=manifest.image_channels,
        graph=(directory / "synthesis.onnx").resolve(),
        instances=instances,
        threads=threads,
    )
    (version.parent / "config.pbtxt").write_text(config)


def session(number: int) -> list[int]:
    """List the processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            if int(stat.read_text().rpartition(")")[2].split()[3]) == number:
                found.append(int(stat.parent.name))
    return found


def processor_seconds(processes: list[int]) -> float:
    """Sum what processes have used until now."""
    fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in processes]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def compare(candidates: dict[str, Candidate], calls: int, rounds: int, requests: int) -> dict[str, Any]:
    """Measure all in turns."""
    found = take_turns({name: partial(turn, each, calls, requests) for name, each in candidates.items()}, range(rounds))
    row: dict[str, Any] = {"calls": calls}
    for field in Turn._fields:
        values = {name: [getattr(each, field) for each in turns] for name, turns in found.items()}
        row[field] = {name: statistics.median(each) for name, each in values.items()}
        row[f"{field}_ratios"] = {name: ratios(values[OURS], each) for name, each in values.items() if name != OURS}
    return row


def turn(candidate: Candidate, calls: int, requests: int) -> Turn:
    """Let perf_analyzer measure one of them."""
    windows = ["--measurement-mode", "count_windows", "--measurement-request-count", str(requests)]
    windows += ["--max-trials", "3", "--stability-percentage", "999"]
    load = ["--concurrency-range", str(calls), "--input-data", "zero"]
    with triton_client.InferenceServerClient(candidate.address) as client:
        answered, used = _answered(client, candidate.model), processor_seconds(candidate.processes())
        (step,) = measure(candidate.address, candidate.model, *windows, *load, timeout_seconds=600)
        answered = _answered(client, candidate.model) - answered
        used = processor_seconds(candidate.processes()) - used
    return Turn(step.throughput, used / answered * 1e3, step.rows / step.batches)


def _answered(client: triton_client.InferenceServerClient, model: str) -> int:
    return int(client.get_inference_statistics(model).model_stats[0].inference_count)


def to_rows(row: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    """Convert a comparison to two rows of the table."""
    for field, form in (("throughput", "{:.1f}/s"), ("processor_ms", "{:.2f} ms")):
        spreads = map(Spread.of, row[f"{field}_ratios"].values())
        yield f"{row['model_px']} px", row["calls"], form.format(row[field][OURS]), *spreads


if __name__ == "__main__":
    main()
