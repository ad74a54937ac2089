"""What stylewire in front of Triton costs, and what shared memory gains: ``make bench-triton``. Never a test.

Everything is measured in turns, so that a busy machine disturbs all alike; the row "itself" is the noise of that. The
first table has real graphs, the others such that compute nothing, so that what is left is the way.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interleave import Spread, ratios
from serving import models
from serving.process import Server, serving
from serving.triton_front.clients import Direct, Front, Turn, take_turn
from stylewire.manifest import CHECK_FILE, Manifest
from support.triton import RunningTriton, running_triton
from support.triton_models import write_graphs
from tables import Table, write_json

TABLE = Table(
    "graphs:>19",
    "load:>5",
    "what:>7",
    "base: p50, images:>22",
    "batch:>6",
    "p50 ms more:>30",
    "images, over base:>28",
)
STALLS = Table("dynamic_batching:>", "callers:>", "calls:>", "late:>", "images/s:>")
CALLERS = 16
STALL_CALLERS, STALL_SECONDS = (1, 2, 4, 8), 0.4
NULL_MODEL = Path(__file__).with_name("null_model.py")
MODELS = {64: models.demo, 256: models.seeded, 1024: lambda: models.seeded(1024)}


@contextmanager
def triton_with(
    directory: Path, *, threads: int, null_model: bool = False, batched: bool = False
) -> Iterator[RunningTriton]:
    """Start a Triton that has the graphs of a model, or graphs of that shape that compute nothing."""
    with tempfile.TemporaryDirectory(prefix="bench-triton-") as folder:
        repository = Path(folder) / "repository"
        for name in write_graphs(directory, repository, threads=threads, batched=batched):
            version = repository / name / "1"
            if null_model:
                shutil.copy(NULL_MODEL, version / "model.py")
                shutil.copy(directory / CHECK_FILE, version)
        with running_triton(repository) as triton:
            yield triton


@contextmanager
def front_of(directory: Path, triton: RunningTriton, *arguments: str) -> Iterator[Server]:
    """Start stylewire in front of a Triton."""
    with serving(directory, "--backend", "triton", "--triton-url", triton.grpc_address, *arguments) as server:
        yield server


async def compare_front(size_px: int, options: argparse.Namespace, *, null_model: bool) -> dict[str, Any]:
    """Measure stylewire over calling Triton directly, with the same batches."""
    directory = MODELS[size_px]()
    manifest = Manifest.read(directory)
    row: dict[str, Any] = {"size_px": size_px, "null_model": null_model}
    with (
        triton_with(directory, null_model=null_model, threads=options.threads) as triton,
        front_of(directory, triton) as server,
    ):
        front = Front(server.address)
        first = await take_turn(front.run, CALLERS, options.seconds)
        size = round(statistics.median(first.batch_sizes))
        for callers, batch_size in ((1, 1), (CALLERS, size)):
            direct = Direct(triton.grpc_address, manifest, batch_size)
            # As many batches of Triton's at once as stylewire has: one that runs, one that waits.
            at_once = 1 if callers == 1 else 2
            turns: dict[str, list[Turn]] = {"direct": [], "front": [], "itself": []}
            for _ in range(options.rounds):
                turns["direct"].append(await take_turn(direct.run, at_once, options.seconds))
                turns["front"].append(await take_turn(front.run, callers, options.seconds))
                turns["itself"].append(await take_turn(direct.run, at_once, options.seconds))
            await direct.close()
            row["lone" if callers == 1 else "full"] = _compare(turns, batch_size)
        await front.close()
    return row


def _compare(turns: dict[str, list[Turn]], batch_size: int) -> dict[str, Any]:
    p50 = {name: [turn.p50_ms for turn in each] for name, each in turns.items()}
    images = {name: [turn.images_per_second for turn in each] for name, each in turns.items()}
    compared = ("front", "itself")
    sizes = [each for turn in turns["front"] for each in turn.batch_sizes]
    return {
        "batch_size": batch_size,
        "front_batch_size": statistics.fmean(sizes),
        "direct_p50_ms": statistics.median(p50["direct"]),
        "direct_images_per_second": statistics.median(images["direct"]),
        "more_ms": {name: [b - a for a, b in zip(p50["direct"], p50[name], strict=True)] for name in compared},
        "ratio": {name: ratios(images[name], images["direct"]) for name in compared},
    }


async def compare_memory(size_px: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure shared memory over messages, with graphs that compute nothing."""
    directory = MODELS[size_px]()
    row: dict[str, Any] = {"size_px": size_px}
    with (
        triton_with(directory, null_model=True, threads=options.threads) as triton,
        front_of(directory, triton, "--triton-shared-memory", "off") as without,
        front_of(directory, triton) as sharing,
    ):
        fronts = {"messages": Front(without.address), "shared": Front(sharing.address)}
        for callers in (1, CALLERS):
            turns: dict[str, list[Turn]] = {"messages": [], "shared": [], "itself": []}
            for _ in range(options.rounds):
                for name, taken in turns.items():
                    way = fronts["messages" if name == "itself" else name]
                    taken.append(await take_turn(way.run, callers, options.seconds))
            row["lone" if callers == 1 else "full"] = _compare(
                {"direct": turns["messages"], "front": turns["shared"], "itself": turns["itself"]}, 0
            )
        for each in fronts.values():
            await each.close()
    return row


async def count_stalls(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Count calls of Triton that take unreasonably long, with its own batcher and without."""
    directory, rows = MODELS[64](), list[dict[str, Any]]()
    STALLS.print_headings()
    for batched in (True, False):
        with triton_with(directory, threads=options.threads, batched=batched) as triton:
            direct = Direct(triton.grpc_address, Manifest.read(directory), 1)
            for callers in STALL_CALLERS:
                turn = await take_turn(direct.run, callers, 2 * options.seconds)
                late = sum(1 for seconds in turn.latencies if seconds > STALL_SECONDS)
                row = {"batched": batched, "callers": callers, "calls": len(turn.latencies), "late": late}
                rows.append(row | {"images_per_second": turn.images_per_second})
                rate = f"{turn.images_per_second:.0f}"
                STALLS.print_row("with" if batched else "without", callers, len(turn.latencies), late, rate)
            await direct.close()
    return rows


def _print(title: str, row: dict[str, Any]) -> None:
    for load, found in ((name, row[name]) for name in ("lone", "full")):
        base = f"{found['direct_p50_ms']:.1f} ms, {found['direct_images_per_second']:.1f}/s"
        for name in ("front", "itself"):
            more, ratio = Spread.of(found["more_ms"][name]), Spread.of(found["ratio"][name])
            TABLE.print_row(title, load, name, base, f"{found['front_batch_size']:.1f}", more, ratio)


async def run(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Print all tables; return the same for JSON."""
    found: dict[str, list[dict[str, Any]]] = {"front": [], "memory": []}
    TABLE.print_headings()
    for size_px in options.sizes:
        for null_model in (False, True):
            if null_model or size_px <= options.real_up_to:
                found["front"].append(await compare_front(size_px, options, null_model=null_model))
                _print(f"{size_px} px{', null model' if null_model else ''}", found["front"][-1])
    print("shared memory (front) over messages (base), graphs that compute nothing")
    for size_px in options.sizes:
        found["memory"].append(await compare_memory(size_px, options))
        _print(f"{size_px} px", found["memory"][-1])
    print(f"Triton's own batcher, 64 px, called directly; late: over {STALL_SECONDS} s")
    found["stalls"] = await count_stalls(options)
    return found


def main() -> None:
    """Run ``make bench-triton``."""
    parser = argparse.ArgumentParser(prog="serving.triton_front", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(MODELS), choices=list(MODELS), metavar="PX")
    parser.add_argument("--real-up-to", type=int, default=256, help="largest picture that is really computed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument("--threads", type=int, default=2, help="of a graph at Triton")
    parser.add_argument("--out", type=Path, default=Path("build/bench/triton.json"))
    options = parser.parse_args()
    write_json(options.out, asyncio.run(run(options)))


if __name__ == "__main__":
    main()
