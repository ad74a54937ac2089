"""Milliseconds of each up-sampling layer in each form and runtime, one thread, interleaved."""

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch

from models.machine import Machine, machine
from models.rounds import time_in_turns
from models.upsampling.runtimes import BF16, Run, runners, write_files
from models.upsampling.variants import VARIANTS
from serving.models import BUILT
from tables import Table, write_json

Layer = tuple[int, int, int]
"""Channels in and out, and the side of the input in pixels."""
LAYERS: tuple[Layer, ...] = ((512, 512, 8), (512, 512, 16), (512, 256, 32), (256, 128, 64), (128, 64, 128))
"""Those of a generator of 256 px; that from 4 px takes no time."""
LARGE_LAYERS: tuple[Layer, ...] = ((64, 32, 256), (64, 32, 512))
"""The last of 512 px, and of 1024 px, where all widths are twice as large."""
LIMIT, BF16_LIMIT = 1e-4, 0.05
"""Largest difference accepted from the first form in PyTorch, relative to the range."""


def main() -> None:
    """Print one table a layer; write them as JSON."""
    parser = argparse.ArgumentParser(prog="models.upsampling", description=__doc__)
    parser.add_argument("--large", action="store_true", help="also the last layers of 512 and 1024 px")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=BUILT / "upsampling.json")
    options = parser.parse_args()
    found = machine(threads=1)
    print(f"{found}\n{options.rounds} interleaved rounds, medians in ms", flush=True)
    tables = {}
    for layer in LAYERS + (LARGE_LAYERS if options.large else ()):
        seconds = measure(layer, options.rounds)
        _print(layer, seconds, found)
        tables["{}->{} at {} px".format(*layer)] = seconds
    written = {"machine": str(found), "rounds": options.rounds, "milliseconds": tables}
    write_json(options.json, written)


def measure(layer: Layer, rounds: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of each form in each runtime."""
    runs = _open(layer)
    _compare(runs)
    seconds = time_in_turns(runs, rounds)
    made: dict[str, dict[str, float]] = {name: {} for name in VARIANTS}
    for (variant, runtime), values in seconds.items():
        made[variant][runtime] = statistics.median(values) * 1e3
    return made


def _open(layer: Layer) -> dict[tuple[str, str], Run]:
    in_channels, out_channels, side_px = layer
    torch.manual_seed(side_px)
    weight = torch.randn(out_channels, in_channels, 3, 3) / (3 * in_channels**0.5)
    x = torch.randn(1, in_channels, side_px, side_px)
    opened = dict[tuple[str, str], Run]()
    for name, variant in VARIANTS.items():
        made = variant(weight).eval()
        stem = BUILT / "upsampling" / "{}_{}_{}_{}".format(name, *layer)
        write_files(made, x, stem)
        opened |= {(name, runtime): run for runtime, run in runners(made, x, stem)}
    return opened


def _compare(runs: dict[tuple[str, str], Run]) -> None:
    """Make sure that all compute the same; what is fast and wrong must not be measured."""
    expected = next(iter(runs.values()))().copy()
    for (variant, runtime), run in runs.items():
        error = float(np.abs(run() - expected).max() / np.ptp(expected))
        if not error <= (BF16_LIMIT if runtime == BF16 else LIMIT):
            raise SystemExit(f"{variant} in {runtime} is off by {error:.1e} of the range")


def _print(layer: Layer, milliseconds: dict[str, dict[str, float]], found: Machine) -> None:
    in_channels, out_channels, side_px = layer
    gmacs = 9 * in_channels * out_channels * side_px**2 / 1e9
    floor = 2 * gmacs / found.peak_gflops * 1e3
    print(
        f"\n{in_channels} -> {out_channels} channels, {side_px} -> {2 * side_px} px: {gmacs:.2f} GMAC, "
        f"{floor:.1f} ms at the speed of a matrix product"
    )
    runtimes = list(next(iter(milliseconds.values())))
    table = Table("form:<10", *(f"{runtime}:>13" for runtime in runtimes))
    rows = ((form, *(f"{values[runtime]:.2f}" for runtime in runtimes)) for form, values in milliseconds.items())
    print(table.text(rows), flush=True)


if __name__ == "__main__":
    main()
