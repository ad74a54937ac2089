"""One comparison is a row; the table says which bound of the project it keeps or breaks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stylewire_export.checkpoints.config import PixelRule
from stylewire_export.runners import AnyArray
from stylewire_export.verify import pixel_error, relative_error
from tables import Table, figure

BOUNDS = {"w": 1e-5, "codes": 1e-4, "image": 2e-4, "input": np.inf, "files": np.inf}
"""Quantity -> largest error, relative to the range of the original's values; bytes have their own rule."""
TABLE = Table("case:<22", "compared:<26", "by:<11", "max error:>", "8-bit values off:>19", "PSNR dB:>", "verdict:<")
PEAK = 2.0  # an image lies in [-1, 1]


class Allowance(NamedTuple):
    """How far bytes may differ where no float image explains them: levels, in a share of the values."""

    max_level: int
    max_share: float


TIES = Allowance(1, 2e-4)
"""What the golden data grant to another order of the float arithmetic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """How 8-bit values compare.

    Attributes:
        off_count: values that differ.
        count: all values.
        max_level: the largest difference.
        kept: the bound holds.
    """

    off_count: int
    count: int
    max_level: int
    kept: bool

    def __str__(self) -> str:
        """Show the share of differing values, and the levels where they are more than one."""
        levels = f" by {self.max_level}" if self.max_level > 1 else ""
        return f"{self.off_count}/{self.count}{levels}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        case: folder of the golden data.
        quantity: key of ``BOUNDS``.
        detail: which of them.
        backend: what ran the graph; "" where none is involved.
        error: largest absolute difference of floats, relative to the original's range; None without floats.
        psnr_db: of the float image, for a peak of 2; None for what is no image.
        pixels: of the bytes; None without bytes.
    """

    case: str
    quantity: str
    detail: str
    backend: str
    error: float | None = None
    psnr_db: float | None = None
    pixels: Bytes | None = None

    @property
    def kept(self) -> bool:
        """Whether every bound holds; NaN breaks it."""
        floats = self.error is None or self.error <= BOUNDS[self.quantity]
        return floats and (self.pixels is None or self.pixels.kept)


@dataclass(frozen=True, slots=True)
class Meter:
    """Makes the rows of one case and backend."""

    case: str
    backend: str

    def values(self, quantity: str, detail: str, expected: AnyArray, got: AnyArray) -> Row:
        """Compare w, codes or images; arrays of one shape."""
        error = relative_error(expected, _same_shape(expected, got))
        psnr_db = _psnr_db(expected, got) if quantity == "image" else None
        return Row(case=self.case, quantity=quantity, detail=detail, backend=self.backend, error=error, psnr_db=psnr_db)

    def picture(self, detail: str, expected: dict[str, AnyArray], got: dict[str, AnyArray], rule: PixelRule) -> Row:
        """Compare an image and its bytes, which may differ by one level at rounding ties of the image.

        Args:
            detail: which picture.
            expected: ``image`` float32[N, C, H, W] and ``pixels`` uint8[N, H, W, C].
            got: the same.
            rule: how the family turns floats into bytes.
        """
        kept = pixel_error(expected, got, rule) <= 1
        pixels = count_bytes(expected["pixels"], got["pixels"], kept=kept)
        return Row(
            case=self.case,
            quantity="image",
            detail=detail,
            backend=self.backend,
            error=relative_error(expected["image"], got["image"]),
            psnr_db=_psnr_db(expected["image"], got["image"]),
            pixels=pixels,
        )

    def files(self, quantity: str, detail: str, expected: AnyArray, got: AnyArray, allowance: Allowance = TIES) -> Row:
        """Compare bytes alone, as stored in files that the originals wrote."""
        difference = np.abs(got.astype(np.int16) - _same_shape(got, expected).astype(np.int16))
        kept = bool(difference.max() <= allowance.max_level and (difference > 0).mean() <= allowance.max_share)
        pixels = count_bytes(expected, got, kept=kept)
        return Row(case=self.case, quantity=quantity, detail=detail, backend=self.backend, pixels=pixels)


def count_bytes(expected: AnyArray, got: AnyArray, *, kept: bool) -> Bytes:
    """Count how uint8 arrays differ."""
    difference = np.abs(got.astype(np.int16) - expected.astype(np.int16))
    return Bytes(
        off_count=int((difference > 0).sum()), count=difference.size, max_level=int(difference.max()), kept=kept
    )


def cells(row: Row) -> tuple[object, ...]:
    """Convert one comparison to the cells of ``TABLE``."""
    compared = f"{row.quantity}: {row.detail}" if row.detail else row.quantity
    numbers = (figure(row.error, ".1e"), row.pixels, figure(row.psnr_db, ".0f"))
    return row.case, compared, row.backend, *numbers, "ok" if row.kept else "BROKEN"


def markdown_table(rows: Iterable[Row]) -> str:
    """Write one line a case and quantity, the worst of its comparisons; columns for every backend."""
    rows = list(rows)
    backends = [name for name in dict.fromkeys(row.backend for row in rows) if name]
    heads = ["max error", "8-bit values off", "PSNR dB"]
    table = Table("golden case:<", "compared:<", *(f"{head}, {name}:>" for head in heads for name in backends))
    lines = list[list[str]]()
    for case, quantity in dict.fromkeys((row.case, row.quantity) for row in rows):
        members = [row for row in rows if (row.case, row.quantity) == (case, quantity)]
        details = ", ".join(detail for detail in dict.fromkeys(row.detail for row in members) if detail)
        parts = [[row for row in members if row.backend in ("", name)] for name in backends]
        worst = [_worst(part, head) for head in heads for part in parts]
        lines.append([case, f"{quantity} ({details})" if details else quantity, *worst])
    return table.markdown(lines)


def _worst(rows: list[Row], head: str) -> str:
    if head == "max error":
        return max((f"{row.error:.1e}" for row in rows if row.error is not None), key=float, default="")
    if head == "PSNR dB":
        return min((f"{row.psnr_db:.0f}" for row in rows if row.psnr_db is not None), key=float, default="")
    pixels = [row.pixels for row in rows if row.pixels is not None]
    if not pixels:
        return ""
    total = Bytes(
        off_count=sum(each.off_count for each in pixels),
        count=sum(each.count for each in pixels),
        max_level=max(each.max_level for each in pixels),
        kept=True,
    )
    return str(total)


def _psnr_db(expected: AnyArray, got: AnyArray) -> float:
    mean_square = float(np.mean((got.astype(np.float64) - expected.astype(np.float64)) ** 2))
    return float("inf") if mean_square == 0 else 10 * float(np.log10(PEAK**2 / mean_square))


def _same_shape(expected: AnyArray, got: AnyArray) -> AnyArray:
    if expected.shape != got.shape:
        raise ValueError(f"the original has the shape {expected.shape}, ours is {got.shape}")
    return got
