"""Each backend on each network, in turns: ``make bench-models``."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from serving.__main__ import processor
from serving.models import seeded, seeded_generator

from models.official import Official
from stylewire.manifest import Manifest
from stylewire.server.backends import BackendOptions, Precision, open_backend
from stylewire.server.machine import resident_bytes

BATCHES = (1, 4)
COLUMNS = ("network", "backend", "precision", "batch", "ms/image", "over official", "PSNR dB", "max levels", "MB")


@dataclass
class Entry:
    """A backend under test."""

    name: str
    backend: Any
    megabytes: float
    seconds: dict[int, list[float]]


def _inputs(directory: Path, batch: int) -> dict[str, np.ndarray]:
    manifest = Manifest.read(directory)
    codes = np.random.RandomState(1).randn(batch, manifest.layer_count, manifest.w_dim)
    one, zero = np.ones(batch, np.float32), np.zeros((batch, 1), np.float32)
    return {"w_plus": codes.astype(np.float32) * 0.5, "noise_strength": one, "noise": zero}


def measure(network: str, directory: Path, makers: dict[str, Callable[[], Any]], rounds: int) -> list[dict[str, Any]]:
    """Open all, run them in turns, and compare each with the first."""
    entries = []
    for name, make in makers.items():
        before = resident_bytes()
        backend = make()
        for batch in BATCHES:
            backend.run(_inputs(directory, batch), ("pixels",))
        entries.append(Entry(name, backend, (resident_bytes() - before) / 1e6, {batch: [] for batch in BATCHES}))
    for _ in range(rounds):
        for batch in BATCHES:
            inputs = _inputs(directory, batch)
            for entry in entries:
                started = time.perf_counter()
                entry.backend.run(inputs, ("pixels",))
                entry.seconds[batch].append(time.perf_counter() - started)
    reference = entries[0].backend.run(_inputs(directory, 4), ("pixels",))["pixels"].astype(float)
    rows = []
    for entry in entries:
        difference = entry.backend.run(_inputs(directory, 4), ("pixels",))["pixels"].astype(float) - reference
        error = float(np.mean(difference**2))
        for batch in BATCHES:
            ratios = [base / own for base, own in zip(entries[0].seconds[batch], entry.seconds[batch], strict=True)]
            rows.append(
                {
                    "network": network,
                    "backend": entry.name,
                    "precision": entry.backend.precision,
                    "batch": batch,
                    "ms/image": statistics.median(entry.seconds[batch]) / batch * 1e3,
                    "over official": statistics.median(ratios),
                    "PSNR dB": 10 * np.log10(255**2 / error) if error else float("inf"),
                    "max levels": float(np.abs(difference).max()),
                    "MB": entry.megabytes,
                }
            )
        entry.backend.close()
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="models", description=__doc__)
    parser.add_argument("--sizes", default="64,256", help="of the synthesis networks, in px, with commas; also 1024")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{processor()}; {options.threads} threads; {options.rounds} interleaved rounds, medians\n")
    made = []
    for size in map(int, options.sizes.split(",")):
        directory, synthesis = seeded(size), seeded_generator(size).synthesis

        def opener(backend: str, precision: Precision, directory: Path = directory) -> Callable[[], Any]:
            told = BackendOptions(threads=options.threads, instances=1, precision=precision)
            return lambda: open_backend(backend, directory / "synthesis.onnx", told)

        makers: dict[str, Callable[[], Any]] = {
            "official": partial(Official, synthesis, options.threads),
            "onnxruntime": opener("onnxruntime", "parity"),
            "openvino": opener("openvino", "parity"),
            "openvino, fast": opener("openvino", "fast"),
        }
        rows = measure(f"{size} px", directory, makers, options.rounds)
        made += rows
        print("  ".join(f"{column:>13s}" for column in COLUMNS))
        for row in rows:
            cells = (f"{row[c]:.1f}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS)
            print("  ".join(f"{cell:>13s}" for cell in cells), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": processor(), "rows": made}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
