"""Time the encoding of a picture with and without its provenance, in turns; prints a table and writes JSON.

The picture is a shipped sample, enlarged: smooth areas and edges, quick to encode, so shares are rather too high.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from interleave import ratios, seconds_per_run, take_turns
from stylewire.demo import MODELS, SAMPLES
from stylewire.media.codecs import ImageFormat
from stylewire.server.config.settings import Settings
from stylewire.server.engine.models.loader import Loader
from stylewire.server.engine_api.models import ModelInfo
from stylewire.server.front.pipeline import jobs, rendering
from stylewire.server.front.pipeline.provenance import Provenance
from stylewire.server.telemetry.metrics import Metrics
from tables import Table, write_json

SIZES_PX = (64, 256, 1024)
LAYERS = {64: 10, 256: 14, 1024: 18}
"""Rows of a w+ code of a model of this size."""
WIDTH = 512
TURN_SECONDS = 0.002
SEED, CODE, AGAIN, BARE = "seed", "code", "bare again", "bare"
TABLE = Table(
    "picture:>10",
    "bare us:>",
    *(f"{name}:>30" for name in ("itself (noise)", "with seed", "with code")),
    "more bytes:>14",
)


def main() -> None:
    """Run ``make bench-provenance``."""
    parser = argparse.ArgumentParser(prog="serving.provenance", description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="turns of each; the table has their medians")
    parser.add_argument("--out", type=Path, default=Path("build/bench/provenance.json"))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES_PX), choices=SIZES_PX, metavar="PX")
    options = parser.parse_args()
    model = Loader(Settings(), Metrics()).read(MODELS / "avatars", "").status.info
    print(
        f"over the bare encoding: median of {options.rounds} interleaved ratios (10th to 90th percentile), difference"
    )
    TABLE.print_headings()
    rows = []
    for size_px in options.sizes:
        for image_format in ImageFormat:
            rows.append(measure(model, size_px, image_format, options.rounds))
            TABLE.print_row(*_cells(rows[-1]))
    write_json(options.out, rows)


def measure(model: ModelInfo, size_px: int, image_format: ImageFormat, rounds: int) -> dict[str, Any]:
    """Compare the four ways to encode one picture as a batch thread does it."""
    output = jobs.Output(form=image_format)
    rows = {"pixels": _picture(size_px)[np.newaxis]}  # [1, H, W, C]
    with ThreadPoolExecutor(1) as executor:
        marks = {BARE: None, AGAIN: None, **_marks(model, size_px)}
        ways = {name: partial(rendering.encode_rows, output, executor, mark, rows, 0) for name, mark in marks.items()}
        seconds = _measure_all(ways, rounds)
        sizes = {name: len(way()[0].content) for name, way in ways.items()}
    return {
        "picture": f"{size_px} {image_format}",
        "seconds": statistics.median(seconds[BARE]),
        "over_bare": {name: _compare(seconds[name], seconds[BARE]) for name in (AGAIN, SEED, CODE)},
        "bytes": sizes,
    }


def _compare(own: list[float], bare: list[float]) -> dict[str, float]:
    over = statistics.quantiles(ratios(own, bare), n=20)
    more = statistics.median(one - other for one, other in zip(own, bare, strict=True))
    return {"median": over[9], "p10": over[1], "p90": over[17], "more_seconds": more}


def _marks(model: ModelInfo, size_px: int) -> dict[str, rendering.Mark]:
    """Make the marks as the pipeline does: of a truncated seed, and of a code of a full-size model."""
    latent = jobs.Latent(model=model, seed=7, psi=0.7)
    code = np.random.default_rng(size_px).standard_normal((LAYERS[size_px], WIDTH), np.float32)
    origins = {
        SEED: Provenance(model=model, latents=[latent], codes=[code], noise=jobs.Noise()),
        CODE: Provenance(model=model, codes=[code], noise=jobs.Noise()),
    }
    return {name: partial(_mark, model, origin) for name, origin in origins.items()}


def _mark(model: ModelInfo, origins: Provenance, row: int) -> bytes:
    return model.packets.packet(origins.describe(row))


def _picture(size_px: int) -> np.ndarray:
    with Image.open(SAMPLES / "avatar00.png") as sample:
        return np.asarray(sample.convert("RGB").resize((size_px, size_px), Image.Resampling.LANCZOS))


def _measure_all(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Measure the processor time of this thread alone: others on the machine do not count."""
    first = statistics.fmean(map(seconds_per_run, ways.values()))
    count = max(1, round(TURN_SECONDS / first))
    gc.disable()
    seconds = take_turns(
        {name: partial(seconds_per_run, way, count, time.thread_time) for name, way in ways.items()}, range(rounds)
    )
    gc.enable()
    return seconds


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    spreads = (
        f"{each['median']:.3f} ({each['p10']:.2f} to {each['p90']:.2f}) {each['more_seconds'] * 1e6:+.1f} us"
        for each in row["over_bare"].values()
    )
    more = f"{row['bytes'][SEED] - row['bytes'][BARE]} of {row['bytes'][BARE]}"
    return row["picture"], f"{row['seconds'] * 1e6:.0f}", *spreads, more


if __name__ == "__main__":
    main()
