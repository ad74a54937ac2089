"""Measure perf_analyzer's throughput on one graph: here, and on tritonserver's Python backend with the same runtime.

All servers are up all the time and are measured in turns, every other round backward; a ratio is of one round. Triton
is measured with two instances of one thread each, as this server runs small graphs, and with one of two threads.
"""

import argparse
import contextlib
import json
import signal
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serving.models import demo, seeded

from stylewire.manifest import Manifest
from support.perf_analyzer import Step, measure
from support.servers import ServerProcess
from support.triton import RunningTriton

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
HEADINGS = f"{'model':>8}{'calls':>7}{'here /s':>10}" + "".join(f"{name:>26}" for name in (AGAIN, *TRITONS))


def main() -> None:
    """Run ``make bench-oip``."""
    parser = argparse.ArgumentParser(prog="python -m oip", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each; the table has the medians")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], metavar="PX", help="64 is the demo model")
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 4, 16], help="calls under way at once")
    parser.add_argument("--window-ms", type=int, default=1000, help="perf_analyzer takes three of these a turn")
    parser.add_argument("--out", type=Path, default=Path("build/bench/oip.json"))
    options = parser.parse_args()
    print("throughput over that of the column: median of interleaved ratios (lowest to highest)")
    print(HEADINGS)
    rows = []
    for size_px in options.sizes:
        directory = demo() if size_px == 64 else seeded(size_px)
        with servers(directory) as addresses:
            for calls in options.calls:
                rows.append(compare(addresses, calls, options.rounds, options.window_ms) | {"model_px": size_px})
                print(line(rows[-1]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2), encoding="utf-8")


@contextlib.contextmanager
def servers(directory: Path) -> Iterator[dict[str, tuple[str, str]]]:
    """Serve a model everywhere; gives the address and the model's name of each."""
    manifest = Manifest.read(directory)
    with contextlib.ExitStack() as stack:
        own = ServerProcess("--threads", "2", "--max-queue-seconds", "60", models=directory)
        stack.callback(own.stop, signal.SIGTERM)
        address = own.address, f"{manifest.name}.synthesis"
        found = {OURS: address, AGAIN: address}
        for name, (instances, threads) in TRITONS.items():
            repository = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_repository(repository, directory, manifest, instances, threads)
            triton = RunningTriton(repository)
            stack.callback(triton.close)
            found[name] = triton.grpc_address, "synthesis"
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


def compare(addresses: dict[str, tuple[str, str]], calls: int, rounds: int, window_ms: int) -> dict[str, object]:
    """Measure all in turns."""
    found: dict[str, list[Step]] = {name: [] for name in addresses}
    for index in range(rounds):
        for name in list(addresses)[:: -1 if index % 2 else 1]:
            found[name].append(turn(*addresses[name], calls, window_ms))
    ours = [step.throughput for step in found[OURS]]
    return {
        "calls": calls,
        "throughput": {name: statistics.median(step.throughput for step in steps) for name, steps in found.items()},
        "ratios": {
            name: [one / step.throughput for one, step in zip(ours, steps, strict=True)]
            for name, steps in found.items()
            if name != OURS
        },
        "batch": {name: statistics.median(step.rows / step.batches for step in each) for name, each in found.items()},
    }


def turn(address: str, model: str, calls: int, window_ms: int) -> Step:
    """Let perf_analyzer measure one of them."""
    windows = ["--measurement-interval", str(window_ms), "--max-trials", "3", "--stability-percentage", "999"]
    load = ["--concurrency-range", str(calls), "--input-data", "zero"]
    (step,) = measure(address, model, *windows, *load)
    return step


def line(row: dict) -> str:
    """Write a row of the table."""
    spreads = [f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in row["ratios"].values()]
    own = row["throughput"][OURS]
    return f"{row['model_px']:>5} px{row['calls']:>7}{own:>10.1f}" + "".join(f"{text:>26}" for text in spreads)


if __name__ == "__main__":
    main()
