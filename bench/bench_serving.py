"""How much of the bare runtime's speed reaches a gRPC client: ``make bench``.

A real server process and real clients over loopback, on the demo model (64 px). Every figure is the median ratio of
interleaved pairs, since times on shared machines drift; the A/A row is the noise of the machine.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from stylewire import AsyncClient
from stylewire.demo import MODELS

CLIENTS = 16
BATCHES = (1, 2, 4, 8)


def start_server() -> tuple[subprocess.Popen[str], str]:
    """Start ``stylewire serve`` on free ports; returns the process and its address."""
    command = [sys.executable, "-m", "stylewire", "serve", "--port", "0", "--metrics-port", "0", "--drain-seconds", "0"]
    process = subprocess.Popen([*command, "--log-level", "WARNING"], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[3].rstrip(",")


def bare_loop(batch_size: int) -> Callable[[float], float]:
    """Make a function that runs z -> pixels in onnxruntime for some seconds and returns images/s."""
    folder = MODELS / "avatars"
    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    mapping, synthesis = (
        ort.InferenceSession(str(folder / f"{graph}.onnx"), options, providers=["CPUExecutionProvider"])
        for graph in ("mapping", "synthesis")
    )
    layer_count = synthesis.get_inputs()[0].shape[1]
    z = np.random.RandomState(0).randn(batch_size, mapping.get_inputs()[0].shape[1]).astype(np.float32)
    strength, noise = np.ones(batch_size, np.float32), np.zeros((batch_size, 1), np.float32)

    def run(seconds: float) -> float:
        done, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            (w,) = mapping.run(["w"], {"z": z})
            code = np.repeat(w[:, None], layer_count, axis=1)
            synthesis.run(["pixels"], {"w_plus": code, "noise_strength": strength, "noise": noise})
            done += batch_size
        return done / elapsed

    return run


def served(address: str, client_count: int, image_format: str) -> Callable[[float], tuple[float, list[float]]]:
    """Make a function that calls Generate for some seconds; returns images/s and the latencies in seconds."""

    async def load(seconds: float) -> tuple[float, list[float]]:
        latencies: list[float] = []
        async with AsyncClient(address) as client:
            await client.generate(0, format=image_format)
            started = time.perf_counter()

            async def one(index: int) -> None:
                seed = index * 100_000
                while time.perf_counter() - started < seconds:
                    sent = time.perf_counter()
                    await client.generate(seed, format=image_format)
                    latencies.append(time.perf_counter() - sent)
                    seed += 1

            await asyncio.gather(*(one(index) for index in range(client_count)))
            return len(latencies) / (time.perf_counter() - started), latencies

    return lambda seconds: asyncio.run(load(seconds))


def main() -> None:
    """Print one table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs of runs")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    bare = {size: bare_loop(size) for size in BATCHES}
    speeds = {size: run(arguments.seconds) for size, run in bare.items()}
    best = max(speeds, key=lambda size: speeds[size])
    process, address = start_server()
    try:
        ratios: dict[str, list[float]] = {"A/A (bare / bare)": [], "jpeg": [], "png": []}
        alone: list[float] = []
        for _ in range(arguments.pairs):
            reference = bare[best](arguments.seconds)
            ratios["A/A (bare / bare)"].append(bare[best](arguments.seconds) / reference)
            for image_format in ("jpeg", "png"):
                reference = bare[best](arguments.seconds)
                speed, _ = served(address, CLIENTS, image_format)(arguments.seconds)
                ratios[image_format].append(speed / reference)
            single = 1 / bare[1](arguments.seconds)
            _, latencies = served(address, 1, "jpeg")(arguments.seconds)
            alone.append((statistics.median(latencies) - single) * 1e3)
    finally:
        process.terminate()
        process.wait(30)

    print(f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, demo model 64 px")
    for size, speed in speeds.items():
        print(f"bare onnxruntime, batch {size}: {speed:8.0f} images/s{'  <- the reference' if size == best else ''}")
    for name, values in ratios.items():
        label = name if name.startswith("A/A") else f"{CLIENTS} clients over gRPC, {name} / bare"
        print(f"{label:40s} {statistics.median(values):.2f}  ({min(values):.2f} to {max(values):.2f})")
    print(f"{'one client: latency minus bare run':40s} {statistics.median(alone):.2f} ms")
    if arguments.json:
        figures = {"bare": speeds, "ratios": ratios, "added_latency_ms": alone}
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
