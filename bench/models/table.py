"""The rows of the table, from what was measured; printed for people and written as JSON."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interleave import Spread, ratios
from models.candidate import Candidate
from models.memory import Footprint
from models.registry import AGAIN_NAME, NAIVE_NAME, OFFICIAL_NAME, ORT_NAME
from models.rounds import Result
from tables import Table, figure

TABLE = Table(
    "batch:<",
    "backend:<22",
    "precision:<",
    "ms/image:<10",
    "official over it:<21",
    "naive over it:<21",
    "error:<9",
    "worst:<9",
    "MB:<5",
    "runtime MB:<",
    "of peak:<",
    "start s:<",
)
LEGEND = """\
official over it, naive over it: time of the published form in eager PyTorch, and of its export in onnxruntime, over
  this one's: median of the ratios of interleaved rounds (range); above 1 this one is faster
error: PSNR against the published form's pixels; for codes, rms of the difference over rms of the codes
worst: largest difference of a pixel in levels; for codes, relative to their range
MB: resident after load and runs, less before; runtime MB: the import of the runtime; each in a process of its own
of peak: two operations a multiply-add of the published form over time and over the matrix product of the first line;
  Winograd multiplies less than is counted, and bf16 units are faster than float32's, so both may exceed 1
start s: until the first output of the smallest batch, the import of the runtime left out"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One candidate at one batch size; what was not measured is None.

    Attributes:
        error_db: PSNR of pixels, higher is closer; relative rms error of codes, lower is closer. None: no difference.
        worst: in levels for pixels, relative to the range for codes.
    """

    network: str
    backend: str
    precision: str
    batch: int
    ms_per_image: float | None
    over_official: Spread | None
    over_naive: Spread | None
    error_db: float | None
    worst: float
    megabytes: float
    runtime_megabytes: float
    share_of_peak: float | None
    start_seconds: float

    def cells(self) -> tuple[object, ...]:
        """Return the values as the table has them."""
        in_levels = self.worst >= 1  # a difference of codes never reaches their range
        return (
            self.batch,
            self.backend,
            self.precision,
            figure(self.ms_per_image, ".3g" if (self.ms_per_image or 100) < 100 else ".0f"),
            self.over_official,
            self.over_naive,
            "none" if self.error_db is None else f"{self.error_db:.1f} dB",
            f"{self.worst:.0f} of 255" if in_levels else f"{self.worst:.1e}" if self.worst else "0",
            f"{self.megabytes:.0f}",
            f"{self.runtime_megabytes:.0f}",
            figure(self.share_of_peak, ".2f"),
            f"{self.start_seconds:.2f}",
        )


def make_rows(
    title: str, results: Sequence[Result], footprints: Mapping[Candidate, Footprint], macs: float, peak_gflops: float
) -> list[Row]:
    """Compare all results of a network with those of the same batch size in the published form and in the naive one."""
    rows = []
    for result in results:
        reference = _named(results, OFFICIAL_NAME, result.batch)
        assert reference is not None  # without it nothing is measured
        naive, taken = _named(results, NAIVE_NAME, result.batch), footprints[result.candidate]
        seconds = statistics.median(result.seconds) / result.batch if result.seconds else None
        error_db, worst = _difference(result.output, reference.output)
        rows.append(
            Row(
                network=title,
                backend=result.candidate.name,
                precision=result.candidate.precision,
                batch=result.batch,
                ms_per_image=seconds and seconds * 1e3,
                over_official=_over(reference, result),
                over_naive=_over(naive, result),
                error_db=error_db,
                worst=worst,
                megabytes=taken.bytes_by_batch[result.batch] / 1e6,
                runtime_megabytes=taken.runtime_bytes / 1e6,
                share_of_peak=seconds and 2 * macs / seconds / 1e9 / peak_gflops,
                start_seconds=taken.start_seconds,
            )
        )
    return rows


def noise(results: Sequence[Result], batch: int) -> Spread | None:
    """Compare a backend with its second copy: all ratios would be 1 on a machine without noise."""
    first, second = _named(results, ORT_NAME, batch), _named(results, AGAIN_NAME, batch)
    return None if first is None or second is None else _over(first, second)


def print_rows(rows: Sequence[Row]) -> None:
    """Print the headings and the rows, with a gap between batch sizes."""
    TABLE.print_headings()
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before.batch != row.batch:
            print()
        TABLE.print_row(*row.cells())


def _named(results: Sequence[Result], name: str, batch: int) -> Result | None:
    return next((each for each in results if (each.candidate.name, each.batch) == (name, batch)), None)


def _over(base: Result | None, other: Result) -> Spread | None:
    if base is None or not base.seconds or not other.seconds:
        return None
    return Spread.of(ratios(base.seconds, other.seconds))


def _difference(output: np.ndarray, reference: np.ndarray) -> tuple[float | None, float]:
    """Return the error in dB and the worst difference of pixels uint8[N, H, W, C] or codes float32[N, ...]."""
    expected = reference.astype(np.float64)
    difference = output.astype(np.float64) - expected
    rms, worst = float(np.sqrt(np.mean(difference**2))), float(np.abs(difference).max())
    if not rms:
        return None, 0.0
    if reference.dtype == np.uint8:
        return 20 * float(np.log10(255 / rms)), worst
    size = float(np.sqrt(np.mean(expected**2)))
    return 20 * float(np.log10(rms / size)), worst / float(np.ptp(expected))
