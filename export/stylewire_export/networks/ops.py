"""Arithmetic that the generator, the encoders and the recipe share: equalized layers and FIR resampling.

Shape legend: N batch, I O input and output channels, H W pixels, T filter taps. All tensors are float32.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SQRT2 = math.sqrt(2)
SLOPE = 0.2  # of the generator's leaky ReLU (Karras et al. 2018, appendix A.1); the encoders' heads use 0.01


class EqualLinear(nn.Module):
    """Linear layer with an equalized learning rate: the stored weight is scaled at run time.

    Args:
        in_size: I.
        out_size: O.
        bias: initial value of the effective bias; ``None`` for no bias.
        lr_multiplier: learning rate relative to the rest of the network.
        activated: apply the leaky ReLU with its gain of sqrt 2.

    Source: Karras et al. 2018 (ProGAN), section 4.1; Karras et al. 2019, appendix C (``lr_multiplier``).
    """

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        bias: float | None = 0.0,
        lr_multiplier: float = 1.0,
        activated: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_size, in_size) / lr_multiplier)
        self.bias = None if bias is None else nn.Parameter(torch.full((out_size,), bias / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(in_size)
        self.bias_gain = lr_multiplier
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, I] to float32[N, O]."""
        # lrelu(y) * g == lrelu(y * g) for g > 0: the gains join the constants and cost nothing at run time.
        gain = SQRT2 if self.activated else 1.0
        bias = None if self.bias is None else self.bias * (self.bias_gain * gain)
        y = functional.linear(x, self.weight * (self.weight_gain * gain), bias)
        return functional.leaky_relu(y, SLOPE) if self.activated else y


def normalize_second_moment(x: Tensor) -> Tensor:
    """Scale every row of float32[N, I] to unit mean square. Source: Karras et al. 2018 (ProGAN), section 4.2."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def split_noise(noise: Tensor, sides_px: Sequence[int]) -> Iterator[Tensor]:
    """Cut flattened noise maps.

    Args:
        noise: float32[N, P']; values that are missing at the end are 0.
        sides_px: side of every map, in order.

    Yields:
        float32[N, 1, side, side].
    """
    # Pad by the full size, then cut: no shape enters the traced graph, so P' stays dynamic.
    noise = functional.pad(noise, (0, sum(side * side for side in sides_px)))
    start = 0
    for side in sides_px:
        yield noise[:, start : start + side * side].reshape(-1, 1, side, side)  # [N, 1, side, side]
        start += side * side


class Smoothing(nn.Module):
    """Low-pass after a transposed 3x3 convolution with stride 2, for a filter of any length.

    Args:
        taps: the filter, sum 1; applied along both axes as a true convolution (mirrored against ``conv2d``).
        channels: C.

    Source: Karras et al. 2019, appendix C (low-pass in up-sampling); Karras et al. 2020, section 4.
    """

    kernel: Tensor

    def __init__(self, taps: tuple[float, ...], channels: int) -> None:
        super().__init__()
        self.before, self.after = (len(taps) + 1) // 2 - 1, (len(taps) - 2) // 2
        # Gain 2 along each axis restores the brightness that the inserted zeros take. The kernel is not persistent:
        # checkpoints hold the filter as a square `resample_filter` of every layer. One square kernel is faster than a
        # column and a row after each other: the layer waits for memory (bench/models/upsampling).
        kernel = torch.tensor(taps).flip(0) * 2
        self.register_buffer("kernel", torch.outer(kernel, kernel).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, C, 2H+1, 2W+1] to float32[N, C, 2H, 2W]."""
        padding = self.before
        if self.before != self.after:  # an odd filter; the usual one is padded inside the convolution, at no cost
            x, padding = functional.pad(x, (self.before, self.after, self.before, self.after)), 0
        return functional.conv2d(x, self.kernel, padding=padding, groups=x.shape[1])


class Upsampling(nn.Module):
    """Double the size of an image: zeros between the pixels, then the filter; arguments as for ``Smoothing``."""

    kernel: Tensor

    def __init__(self, taps: tuple[float, ...], channels: int) -> None:
        super().__init__()
        self.crop, self.odd = (len(taps) - 2) // 2, len(taps) % 2 == 1
        kernel = torch.tensor(taps) * 2
        self.register_buffer("kernel", torch.outer(kernel, kernel).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, C, H, W] to float32[N, C, 2H, 2W]."""
        x = functional.conv_transpose2d(x, self.kernel, stride=2, padding=self.crop, groups=x.shape[1])
        return x[:, :, :-1, :-1] if self.odd else x  # an odd filter reaches one pixel further on one side
