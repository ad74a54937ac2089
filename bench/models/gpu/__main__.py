"""Each form of each network on this GPU: ``bench/gpu/run.sh``."""

import argparse
import gc
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interleave import seconds_per_run, take_turns
from models.gpu import subjects
from models.gpu.forms import COMPILED, FORMS, REFERENCE, SLOW_FORMS, Runner, SkippedError, Workshop
from models.gpu.layers import measure_layers
from models.gpu.limits import Clock
from models.gpu.subjects import Subject
from tables import Table, figure, write_json

SAMPLE_SECONDS = 0.1
PACKAGES = ("torch", "triton", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "nvidia-cudnn-cu13")
TABLE = Table(
    "network:>14",
    "batch:>",
    "form:>22",
    "images/s:>9",
    "ms:>8",
    "of roofline:>",
    "over official:>",
    "PSNR dB:>8",
    "worst:>8",
    "GB:>6",
)
LEGEND = """\
images/s, ms: of a batch, median of interleaved rounds; server rows copy inputs and outputs, the others leave them there
of roofline: share of what the arithmetic and the memory of an H200 allow
over official: time of the published form in float32, eager, over this one's
PSNR, worst: against that form; of pixels in levels of 255, of codes against their range
GB: memory of the GPU that it took; that of PyTorch's forms without their weights"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One form at one batch size; a skipped one has only a reason."""

    network: str
    batch: int
    form: str
    skipped: str = ""
    images_per_second: float | None = None
    seconds: float | None = None
    spread: tuple[float, float] | None = None
    of_roofline: float | None = None
    over_official: float | None = None
    psnr_db: float | None = None
    worst: float | None = None
    gigabytes: float | None = None

    def cells(self) -> tuple[object, ...]:
        """Return the values as the table has them."""
        return (
            self.network,
            self.batch,
            self.form,
            figure(self.images_per_second, ".0f"),
            figure(None if self.seconds is None else self.seconds * 1e3, ".3f"),
            figure(self.of_roofline, ".1%"),
            figure(self.over_official, ".2f"),
            figure(self.psnr_db, ".1f"),
            figure(self.worst, ".3g"),
            figure(self.gigabytes, ".2f"),
        )


class Bench:
    """All that is measured in one call.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._clock = options, Clock(options.seconds)
        self._device = "cuda:0" if options.device == "cuda" else "cpu"
        self._cuda = options.device == "cuda"
        self.rows: list[Row] = []
        self._layers: list[dict[str, Any]] = []
        self._machine = machine(cuda=self._cuda)
        self._official_seconds: dict[tuple[str, int], float] = {}

    def run(self, folder: Path) -> None:
        """Measure everything, the most telling first, as long as there is time."""
        print(f"{self._machine['gpu']}; {self._machine['ceilings']}", flush=True)
        for make in self._subjects(folder):
            shop = Workshop(make(), self._device, folder)
            for batch in sorted(self._options.batches, key=lambda size: (size != 8, size != 1, -size)):
                forms = dict(FORMS)
                if batch in self._options.slow_batches:
                    forms |= SLOW_FORMS
                self._measure(shop, batch, forms)
            self._close(shop)
        self._measure_layers()
        for make in self._subjects(folder) if self._cuda else ():
            if self._clock.left() < 60:
                print("no time left to compile", flush=True)
                break
            shop = Workshop(make(), self._device, folder)
            self._measure(shop, self._options.compiled_batch, {REFERENCE: FORMS[REFERENCE], **COMPILED})
            self._close(shop)

    def print_table(self) -> None:
        """Print what was measured, then what was not, and write the same to a file."""
        rows = sorted((row for row in self.rows if not row.skipped), key=lambda row: (row.network, row.batch))
        skipped = dict.fromkeys(f"skipped {row.form}: {row.skipped}" for row in self.rows if row.skipped)
        text = "\n".join([TABLE.text(row.cells() for row in rows), LEGEND, *skipped])
        print(text)
        (self._options.out / "gpu.txt").write_text(f"{self._machine}\n{text}\n", encoding="utf-8")

    def _measure_layers(self) -> None:
        if not self._cuda or self._clock.left() < 60:
            return
        try:
            self._layers = measure_layers()
        except Exception as err:  # noqa: BLE001 - the networks are what matters
            print(f"the layers alone: skipped: {err}", flush=True)
        self._write()

    def _subjects(self, folder: Path) -> Iterator[Callable[[], Subject]]:
        for size in sorted(self._options.sizes, reverse=True):
            yield lambda size=size: subjects.synthesis(size, folder)
        if self._options.encoder:
            yield lambda: subjects.encoder(quick=self._options.quick)

    def _measure(self, shop: Workshop, batch: int, forms: dict[str, Callable[[Workshop, int], Runner]]) -> None:
        runners, gigabytes = self._make(shop, batch, forms)
        if not runners:
            return
        seconds = self._time(runners)
        expected = runners[REFERENCE].result() if REFERENCE in runners else None
        key = shop.subject.name, batch
        if REFERENCE in seconds:
            self._official_seconds.setdefault(key, statistics.median(seconds[REFERENCE]))
        for name, runner in runners.items():
            if any((row.network, row.batch, row.form) == (*key, name) for row in self.rows):
                continue  # a form to compare with, measured before
            middle = statistics.median(seconds[name])
            psnr, worst = compare(expected, runner.result()) if expected is not None else (None, None)
            rate, roofline = batch / middle, shop.subject.roofline
            row = Row(
                network=key[0],
                batch=batch,
                form=name,
                images_per_second=rate,
                seconds=middle,
                spread=(min(seconds[name]), max(seconds[name])),
                of_roofline=rate / roofline if roofline else None,
                over_official=self._official_seconds[key] / middle if key in self._official_seconds else None,
                psnr_db=psnr,
                worst=worst,
                gigabytes=gigabytes[name],
            )
            self.rows.append(row)
            TABLE.print_row(*row.cells())
        self._write()

    def _make(
        self, shop: Workshop, batch: int, forms: dict[str, Callable[[Workshop, int], Runner]]
    ) -> tuple[dict[str, Runner], dict[str, float | None]]:
        runners: dict[str, Runner] = {}
        gigabytes: dict[str, float | None] = {}
        for name, make in forms.items():
            if self._clock.left() < 20:
                self._skip(shop, batch, name, "no time left")
                continue
            before = self._used_gigabytes()
            try:
                runner = make(shop, batch)
                runner.launch(2)
            except SkippedError as err:
                self._skip(shop, batch, name, str(err))
            except Exception as err:  # noqa: BLE001 - the errors of runtimes have no class in common
                self._skip(shop, batch, name, f"{type(err).__name__}: {str(err).strip().splitlines()[:1]}")
            else:
                after = self._used_gigabytes(emptied=False)
                gigabytes[name] = None if before is None or after is None else after - before
                runners[name] = runner
        return runners, gigabytes

    def _time(self, runners: dict[str, Runner]) -> dict[str, list[float]]:
        """Run all in turns, at least once; return the seconds of a batch in each round."""
        counts = {name: max(1, round(SAMPLE_SECONDS / runner.launch(1))) for name, runner in runners.items()}
        measures = {name: partial(_batch_seconds, runner, counts[name]) for name, runner in runners.items()}
        return take_turns(
            measures, takewhile(lambda number: not number or self._clock.left() >= 10, range(self._options.rounds))
        )

    def _skip(self, shop: Workshop, batch: int, name: str, reason: str) -> None:
        print(f"{shop.subject.name}, batch {batch}, {name}: skipped: {reason}", flush=True)
        self.rows.append(Row(network=shop.subject.name, batch=batch, form=name, skipped=reason))

    def _used_gigabytes(self, *, emptied: bool = True) -> float | None:
        if not self._cuda:
            return None
        torch.cuda.synchronize()
        if emptied:
            gc.collect()
            torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        return (total - free) / 1e9

    def _close(self, shop: Workshop) -> None:
        shop.close()
        self._used_gigabytes()
        self._write()

    def _write(self) -> None:
        rows = [asdict(row) for row in self.rows]
        write_json(
            self._options.out / "gpu.json", {"machine": self._machine, "rows": rows, "layers": self._layers}, quiet=True
        )


def compare(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return the PSNR in dB and the largest difference, in levels for pixels and relative to the range for codes."""
    difference = found.astype(np.float64) - expected
    error = float(np.mean(difference**2))
    if expected.dtype == np.uint8:
        return (10 * np.log10(255**2 / error) if error else np.inf), float(np.abs(difference).max())
    spread = float(np.ptp(expected))
    return (10 * np.log10(spread**2 / error) if error else np.inf), float(np.abs(difference).max()) / spread


def machine(*, cuda: bool) -> dict[str, Any]:
    """Name what runs, with the ceilings of this very GPU."""
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    found: dict[str, Any] = {"versions": versions, "python": platform.python_version(), "gpu": "no GPU", "ceilings": {}}
    if cuda:
        found["gpu"] = torch.cuda.get_device_name(0)
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "ceilings": ceilings()}
    return found


def ceilings() -> dict[str, float]:
    """Measure a large copy and a large matrix product in half precision, both of random data."""
    matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    source = torch.randn(1 << 30, device="cuda")
    target = torch.empty_like(source)
    product = _median_seconds(lambda: matrix @ matrix)
    copied = _median_seconds(lambda: target.copy_(source))
    return {"TFLOP/s": 2 * 8192**3 / product / 1e12, "GB/s": 2 * source.nbytes / copied / 1e9}


def _median_seconds(run: Callable[[], Any]) -> float:
    def run_to_the_end() -> None:
        run()
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return statistics.median([seconds_per_run(run_to_the_end) for _ in range(13)][3:])


def _batch_seconds(runner: Runner, count: int) -> float:
    return runner.launch(count) / count


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def main() -> None:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="models.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--sizes", type=_numbers, default=[1024, 256], help="of the synthesis networks, in px")
    parser.add_argument("--no-encoder", dest="encoder", action="store_false")
    parser.add_argument("--batches", type=_numbers, default=[1, 4, 8, 16, 32])
    parser.add_argument("--slow-batches", type=_numbers, default=[1, 8, 32], help="for runtimes that search at length")
    parser.add_argument("--compiled-batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=540.0, help="for everything")
    parser.add_argument("--quick", action="store_true", help="a tiny encoder and batches of 1 and 4: to try the script")
    parser.add_argument("--out", type=Path, default=Path("build/bench/gpu"))
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here; --device cpu --sizes 64 --rounds 1 --quick tries the script")
    if options.quick:
        options.batches = options.slow_batches = [1, 4]
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    bench = Bench(options)
    with tempfile.TemporaryDirectory() as folder:
        bench.run(Path(folder))
    bench.print_table()


if __name__ == "__main__":
    main()
