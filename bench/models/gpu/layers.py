"""The up-sampling layers alone, in half precision: most of what moves memory, and the part with most ways to write."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from interleave import seconds_per_run, take_turns
from models.upsampling.variants import VARIANTS

BATCH = 8
LAYERS = ((512, 512, 32), (512, 256, 64), (256, 128, 128), (128, 64, 256), (64, 32, 512))
"""Channels in and out, and the side of the input in pixels: of a generator of 1024 px."""
FORMATS = {"NHWC": torch.channels_last, "NCHW": torch.contiguous_format}
LIMIT = 0.02
"""Largest difference accepted from the first form in float32, relative to the range."""
RUNS, ROUNDS = 20, 7


def measure_layers() -> list[dict[str, Any]]:
    """Return the milliseconds of each form of each layer, captured in a CUDA graph."""
    made = []
    for in_channels, out_channels, side_px in LAYERS:
        torch.manual_seed(side_px)
        weight = torch.randn(out_channels, in_channels, 3, 3) / (3 * in_channels**0.5)
        x = torch.randn(BATCH, in_channels, side_px, side_px, device="cuda")
        title = f"{in_channels} to {out_channels} channels, {side_px} to {2 * side_px} px, batch {BATCH}"
        runs = _open(weight, x)
        times = take_turns({name: partial(_milliseconds, run) for name, run in runs.items()}, range(ROUNDS))
        milliseconds = {name: statistics.median(values) for name, values in times.items()}
        made.append({"layer": title, "milliseconds": milliseconds})
        print(f"{title}: " + ", ".join(f"{name} {value:.3f}" for name, value in milliseconds.items()), flush=True)
    return made


def _open(weight: torch.Tensor, x: torch.Tensor) -> dict[str, Callable[[], None]]:
    runs: dict[str, Callable[[], None]] = {}
    with torch.inference_mode():
        expected = next(iter(VARIANTS.values()))(weight).cuda()(x)
        for name, variant in VARIANTS.items():
            for order, memory_format in FORMATS.items():
                layer = variant(weight).cuda().half().to(memory_format=memory_format)
                given = x.half().contiguous(memory_format=memory_format)
                replay, found = _capture(layer, given)
                error = float((found.float() - expected).abs().max() / (expected.max() - expected.min()))
                if error <= LIMIT:
                    runs[f"{name} {order}"] = replay
                else:
                    print(f"{name} {order} is off by {error:.1e} of the range, so it is left out")
    return runs


def _capture(layer: torch.nn.Module, x: torch.Tensor) -> tuple[Callable[[], None], torch.Tensor]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            layer(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = layer(x)
    graph.replay()
    torch.cuda.synchronize()
    return graph.replay, found


def _milliseconds(run: Callable[[], None]) -> float:
    def run_all() -> None:
        for _ in range(RUNS):
            run()
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return seconds_per_run(run_all) / RUNS * 1e3
