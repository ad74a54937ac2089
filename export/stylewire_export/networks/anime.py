"""The SRResNet generator of anime faces, from scratch: noise and attributes -> image.

Source: Jin et al. 2017 (arXiv 1708.05509), section 4.2 and figure 3. State-dict names are those of a public PyTorch
port. Shape legend: N batch, Z z_dim, C image channels, R resolution, H W pixels, I O channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stylewire_export.checkpoints.config import AnimeConfig


class Residual(nn.Module):
    """Two normalized 3x3 convolutions beside a shortcut; nothing is activated after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, I, H, W] to the same shape."""
        y: Tensor = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return x + y


class SubPixel(nn.Module):
    """Double the size: a convolution makes four values for every pixel, which are then put side by side.

    Source: Shi et al. 2016 (arXiv 1609.05158), section 2.2.
    """

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(in_width, 4 * out_width, 3, padding=1), nn.BatchNorm2d(out_width)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, I, H, W] to float32[N, O, 2H, 2W]."""
        return functional.relu(self.bn(functional.pixel_shuffle(self.conv(x), 2)))


class AnimeFaces(nn.Module):
    """Dense layer, residual blocks between a long shortcut, sub-pixel up-sampling, one wide convolution."""

    def __init__(self, config: AnimeConfig) -> None:
        super().__init__()
        self.config = config
        self.dense = nn.Linear(config.input_dim, config.width * config.start_px**2)
        self.bn1, self.bn2 = nn.BatchNorm2d(config.width), nn.BatchNorm2d(config.width)
        for number in range(1, config.residual_count + 1):
            self.add_module(f"residual_block{number}", Residual(config.width))
        width = config.width
        for number, up_width in enumerate(config.up_widths, start=1):
            self.add_module(f"upsample{number}", SubPixel(width, up_width))
            width = up_width
        side = config.image_kernel_px
        self.conv3 = nn.Conv2d(width, config.image_channels, side, padding=side // 2)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Map float32[N, Z] and the attributes float32[N, label_dim] to float32[N, C, R, R] in [-1, 1]."""
        x = self.dense(z if label is None else torch.cat([z, label], 1))
        start_px = self.config.start_px
        start = functional.relu(self.bn1(x.reshape(-1, self.config.width, start_px, start_px)))  # [N, I, H, W]
        x = start
        for number in range(1, self.config.residual_count + 1):
            x = self.get_submodule(f"residual_block{number}")(x)
        x = functional.relu(self.bn2(x)) + start
        for number in range(1, len(self.config.up_widths) + 1):
            x = self.get_submodule(f"upsample{number}")(x)
        return torch.tanh(self.conv3(x))
