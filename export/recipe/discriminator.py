"""The discriminator of the recipe: residual, with the standard deviation of the batch as an extra channel.

Average pooling instead of the paper's FIR: cheaper on a CPU. Source: Karras et al. 2020, section 4 and appendix B.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from stylewire_export.checkpoints import GeneratorConfig
from stylewire_export.networks.ops import SQRT2, EqualLinear

GROUP_SIZE = 4  # images whose spread is measured together


class EqualConv(nn.Module):
    """Convolution with an equalized learning rate and, if activated, bias and leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, side: int, *, activated: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, side, side))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if activated else None
        self.gain, self.padding = 1 / math.sqrt(in_channels * side * side), side // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, I, H, W] to float32[N, O, H, W]."""
        x = functional.conv2d(x, self.weight * self.gain, self.bias, padding=self.padding)
        return x if self.bias is None else functional.leaky_relu(x, 0.2) * SQRT2


class Discriminator(nn.Module):
    """Image -> one logit; as wide as the generator of the same configuration."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        widths = [width for _, width in reversed(config.channels)]
        self.rgb = EqualConv(config.image_channels, widths[0], 1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "conv0": EqualConv(in_channels, in_channels, 3),
                    "conv1": EqualConv(in_channels, out_channels, 3),
                    "skip": EqualConv(in_channels, out_channels, 1, activated=False),
                }
            )
            for in_channels, out_channels in pairwise(widths)
        )
        self.last = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.fc = EqualLinear(widths[-1] * 16, widths[-1], activated=True)
        self.out = EqualLinear(widths[-1], 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map float32[N, C, R, R] to logits float32[N, 1]; above 0 means real."""
        x = self.rgb(image)
        for block in self.blocks:
            y = block["conv1"](functional.avg_pool2d(block["conv0"](x), 2))
            x = (y + block["skip"](functional.avg_pool2d(x, 2))) * math.sqrt(0.5)
        x = self.last(torch.cat([x, _spread(x)], 1))
        logits: Tensor = self.out(self.fc(x.flatten(1)))
        return logits


def _spread(x: Tensor) -> Tensor:
    """Map float32[N, C, H, W] to the mean standard deviation within groups of the batch, float32[N, 1, H, W].

    Source: Karras et al. 2018 (ProGAN), section 3.
    """
    count, channels, height, width = x.shape
    group = GROUP_SIZE if count % GROUP_SIZE == 0 else count
    grouped = x.view(group, -1, channels, height, width)
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)  # [N / group, 1, 1, 1]
    return deviation.repeat(group, 1, height, width)
