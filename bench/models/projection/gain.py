"""How close the demo's pictures come, by the steps, and how long that takes."""

import io
import time
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from stylewire import Client
from tables import Table

STEPS = (0, 25, 50, 100, 200)
TABLE = Table("start:<18", "steps:>", "MSE:>7", "PSNR:>8", "SSIM:>6", "seconds:>", "worst MSE:>", "most seconds:>")
_PICTURES = 16
_SAMPLES = resources.files("stylewire") / "demo" / "samples"


class Way(NamedTuple):
    """One way to a code: its name in the table, steps, and further options of Project."""

    name: str
    steps: int
    options: dict[str, object]


WAYS = [
    *(Way("encoder", steps, {}) for steps in STEPS),
    Way("encoder, and noise", 100, {"optimize_noise": True}),
    *(Way("mean code", steps, {"start": "mean"}) for steps in (100, 200)),
]


class Quality(NamedTuple):
    """How a reconstruction differs from its picture."""

    mse: float
    psnr_db: float
    ssim: float
    seconds: float


def print_gain(client: Client, count: int = _PICTURES) -> dict[str, list[float]]:
    """Print the means over the pictures; return them by way."""
    client.project(picture(0), steps=1)  # the process has started
    TABLE.print_headings()
    table = {}
    for way in WAYS:
        found = list(_measure(client, way, count))
        mean, worst = Quality(*np.mean(found, 0)), max(each.mse for each in found)
        most = max(each.seconds for each in found)
        means = (f"{mean.mse:.4f}", f"{mean.psnr_db:.1f} dB", f"{mean.ssim:.3f}", f"{mean.seconds:.2f}")
        TABLE.print_row(way.name, way.steps, *means, f"{worst:.4f}", f"{most:.2f}")
        table[f"{way.name} {way.steps}"] = list(mean)
    return table


def _measure(client: Client, way: Way, count: int) -> Iterator[Quality]:
    for index in range(count):
        content, started = picture(index), time.monotonic()
        if way.steps:
            found = client.project(content, steps=way.steps, format="pixels", **way.options)
            made = found.reconstruction.array
        else:
            made = client.invert(content, return_reconstruction=True, format="pixels").reconstruction.array
        yield compare(made, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), time.monotonic() - started)


def compare(made: np.ndarray, given: np.ndarray, seconds: float) -> Quality:
    """Compare two pictures uint8[H, W, 3]: MSE over values in [-1, 1], PSNR and SSIM over 0 to 255.

    Source: Wang et al. 2004, SSIM with a Gaussian window of 1.5 px, K1 = 0.01, K2 = 0.03, mean over the channels.
    """
    one, other = made.astype(np.float64), given.astype(np.float64)
    mse = float(np.square((one - other) / 127.5).mean())
    blurred = [
        gaussian_filter(each, (1.5, 1.5, 0), truncate=3.5) for each in (one, other, one**2, other**2, one * other)
    ]
    mean_one, mean_other, square_one, square_other, product = blurred
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    covariance, variances = product - mean_one * mean_other, square_one - mean_one**2 + square_other - mean_other**2
    ssim = (2 * mean_one * mean_other + c1) * (2 * covariance + c2)
    ssim /= (mean_one**2 + mean_other**2 + c1) * (variances + c2)
    return Quality(mse, 10 * np.log10(4 / mse), float(ssim.mean()), seconds)


def picture(index: int) -> bytes:
    """Read a shipped sample."""
    return (_SAMPLES / f"avatar{index:02}.png").read_bytes()
