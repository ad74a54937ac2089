"""How far an image is from another one, and a code from what the generator knows.

No feature network: those with good weights come under licenses or from places that a server cannot rely on. Instead
the images are compared at every size down to 4 px, by their values and by their edges. Shape legend: N batch,
C channels, H W pixels, L layers, D w_dim.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_PX = 4
"""Side of the smallest size that is compared."""
_ROUNDING = 0.05
"""Where the cost of a difference goes over from its square to its size: about 6 of 255 levels."""
_TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""Burt and Adelson 1983, "The Laplacian pyramid as a compact image code": their filter with a = 3/8."""


class ImageLoss(NamedTuple):
    """Parts of the difference of two images, each a mean over all sizes.

    Attributes:
        pixel: of the values.
        gradient: of the differences between neighbors.
    """

    pixel: Tensor
    gradient: Tensor


def pyramid(images: Tensor) -> list[Tensor]:
    """Halve images float32[N, C, H, W] until a side has 4 to 7 px.

    Returns:
        All sizes, the largest first.
    """
    sizes = [images]
    taps = torch.tensor(_TAPS, dtype=images.dtype, device=images.device)
    kernel = torch.outer(taps, taps).repeat(images.shape[1], 1, 1, 1)  # [C, 1, 5, 5]
    while min(sizes[-1].shape[2:]) >= 2 * SMALLEST_PX:
        padded = functional.pad(sizes[-1], (2, 2, 2, 2), mode="reflect")
        sizes.append(functional.conv2d(padded, kernel, stride=2, groups=images.shape[1]))
    return sizes


def compare(images: list[Tensor], others: list[Tensor]) -> ImageLoss:
    """Compare two pyramids of the same shapes; both parts are float32[]."""
    differences = [one - other for one, other in zip(images, others, strict=True)]
    pixel = torch.stack([_charbonnier(each).mean() for each in differences]).mean()
    edges = [
        (_charbonnier(each.diff(dim=-1)).mean() + _charbonnier(each.diff(dim=-2)).mean()) / 2 for each in differences
    ]
    return ImageLoss(pixel, torch.stack(edges).mean())


def code_spread(code: Tensor, mean: Tensor, spread: float) -> Tensor:
    """Measure how far a code is from those that the mapping network makes.

    Two parts: how far the rows differ from each other, since all rows of a mapped code are equal, and how far their
    mean is from the mean code.

    Args:
        code: float32[L, D].
        mean: float32[D].
        spread: standard deviation of a value of w.

    Returns:
        float32[], in units of the square of ``spread``.

    Source: Tov et al. 2021 (encoder4editing), section 4.2 ("proximity to W").
    """
    middle = code.mean(0)
    return ((code - middle).square().mean() + (middle - mean).square().mean()) / spread**2


def noise_correlation(maps: list[Tensor]) -> Tensor:
    """Measure how much neighboring values of noise maps have in common, at every size down to 8 px.

    An image must not hide in the noise: what is correlated there is punished.

    Args:
        maps: float32[1, 1, H, W] each.

    Returns:
        float32[], 0 where nothing is correlated.

    Source: Karras et al. 2020 (StyleGAN2), appendix D, equation 5.
    """
    total = torch.zeros((), device=maps[0].device)
    for noise in maps:
        level = noise
        while True:
            total = total + (level * level.roll(1, 3)).mean().square() + (level * level.roll(1, 2)).mean().square()
            if level.shape[2] <= 8:
                break
            level = functional.avg_pool2d(level, 2) * 2  # the sum of four, kept at unit variance
    return total


def _charbonnier(difference: Tensor) -> Tensor:
    """Map small differences to their squares and large ones to their sizes, of any shape: outliers do not rule.

    Source: Charbonnier et al. 1994, "Two deterministic half-quadratic regularization algorithms".
    """
    return (difference.square() + _ROUNDING**2).sqrt() - _ROUNDING
