"""The encoders of pSp and e4e, from scratch: image -> w+ offsets, on an IR-SE backbone.

Sources: Richardson et al. 2021 (pSp, arXiv 2008.00951), Tov et al. 2021 (e4e, arXiv 2102.02766), Hu et al. 2018
(squeeze and excitation), Deng et al. 2019 (the IR backbone). State-dict names are those of published pSp checkpoints
without their prefix ``encoder.``. Every width comes from the configuration.
Shape legend: N batch, C input channels, S H W input sizes in pixels, D w_dim, L layers, I O channels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stylewire_export.checkpoints.config import EncoderType
from stylewire_export.checkpoints.encoder_layout import COARSE_STYLES, MIDDLE_STYLES
from stylewire_export.networks.ops import EqualLinear

POOLED_SIDE = 7  # of BackboneEncoderUsingLastLayerIntoWPlus: format notes 2, section 2.4


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Structure of an encoder.

    Attributes:
        input_size_px: height and width; both divisible by 16.
        widths: channels of the first layer and of the four stages; published: 64, 64, 128, 256, 512.
        unit_counts: residual units of the four stages; published: 3, 4, 14, 3.
        squeeze_widths: hidden channels of squeeze and excitation in the four stages; published: a 16th of the width.
        head_depths: convolutions in the heads of the coarse, middle and fine rows; published: 4, 5, 6.
    """

    encoder_type: EncoderType
    input_channels: int
    input_size_px: tuple[int, int]
    layer_count: int
    w_dim: int
    widths: tuple[int, int, int, int, int]
    unit_counts: tuple[int, int, int, int]
    squeeze_widths: tuple[int, int, int, int]
    head_depths: tuple[int, int, int] = (4, 5, 6)


class SqueezeExcite(nn.Module):
    """Scale the channels by factors computed from their means.

    Source: Hu et al. 2018, section 3.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, C, H, W] to the same shape."""
        means = x.mean((2, 3), keepdim=True)  # [N, C, 1, 1]
        return x * torch.sigmoid(self.fc2(functional.relu(self.fc1(means))))


class ResidualUnit(nn.Module):
    """Unit of the backbone: BN, 3x3, PReLU, strided 3x3, BN, squeeze and excitation, plus the shortcut.

    The first BN stands before a zero-padded convolution and so cannot be folded into it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, hidden: int) -> None:
        super().__init__()
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False),
            nn.PReLU(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            SqueezeExcite(out_channels, hidden),
        )
        self.shortcut_layer = (
            nn.MaxPool2d(1, stride)  # no parameters: every stride-th pixel
            if in_channels == out_channels
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, I, H, W] to float32[N, O, H/stride, W/stride]."""
        y: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return y


class Backbone(nn.Module):
    """The part that all encoders share: image -> feature maps at 1/4, 1/8 and 1/16 of the size."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        first = config.widths[0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(config.input_channels, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        units: list[nn.Module] = []
        in_channels = first
        for width, count, hidden in zip(config.widths[1:], config.unit_counts, config.squeeze_widths, strict=True):
            for index in range(count):
                units.append(ResidualUnit(in_channels, width, 2 if index == 0 else 1, hidden))
                in_channels = width
        self.body = nn.Sequential(*units)

    def features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map float32[N, C, H, W] to the outputs of stages 2, 3 and 4."""
        x = self.input_layer(image)
        ends = [sum(self.config.unit_counts[:stages]) for stages in (2, 3, 4)]
        maps = []
        for count, unit in enumerate(self.body, start=1):
            x = unit(x)
            if count in ends:
                maps.append(x)
        fine, middle, coarse = maps
        return fine, middle, coarse


class MapToStyle(nn.Module):
    """One row of the code from a feature map: strided convolutions down to one pixel, then a linear layer."""

    def __init__(self, in_channels: int, out_size: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [nn.Conv2d(in_channels if index == 0 else out_size, out_size, 3, 2, 1), nn.LeakyReLU(0.01)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(out_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, I, H, W], where H and W halve to 1, to float32[N, D]."""
        row: Tensor = self.linear(self.convs(x).flatten(1))
        return row


class PyramidEncoder(Backbone):
    """``GradualStyleEncoder`` of pSp and ``Encoder4Editing``: a feature pyramid and one head a row.

    e4e predicts row 0 and the difference of every other row from it.

    Source: Richardson et al. 2021, section 3.1; Tov et al. 2021, section 4.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        top = config.widths[4]
        self.latlayer1 = nn.Conv2d(config.widths[3], top, 1)
        self.latlayer2 = nn.Conv2d(config.widths[2], top, 1)
        coarse, middle, fine = config.head_depths
        depths = [
            coarse if k < COARSE_STYLES else middle if k < MIDDLE_STYLES else fine for k in range(config.layer_count)
        ]
        self.styles = nn.ModuleList(MapToStyle(top, config.w_dim, depth) for depth in depths)

    def forward(self, image: Tensor) -> Tensor:
        """Map float32[N, C, H, W] to offsets float32[N, L, D]; the mean code is added outside."""
        fine, middle, coarse = self.features(image)
        middle = _double(coarse) + self.latlayer1(middle)
        fine = _double(middle) + self.latlayer2(fine)
        maps = [coarse] * COARSE_STYLES + [middle] * (MIDDLE_STYLES - COARSE_STYLES)
        maps += [fine] * (self.config.layer_count - MIDDLE_STYLES)
        rows = [head(x) for head, x in zip(self.styles, maps, strict=True)]
        if self.config.encoder_type == "Encoder4Editing":
            rows = [rows[0], *[rows[0] + row for row in rows[1:]]]
        return torch.stack(rows, 1)  # [N, L, D]


class MeanEncoder(Backbone):
    """``BackboneEncoderUsingLastLayerIntoW`` and ``SingleStyleCodeEncoder``: one w for all rows."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.linear = EqualLinear(config.widths[4], config.w_dim)

    def forward(self, image: Tensor) -> Tensor:
        """Map float32[N, C, H, W] to offsets float32[N, L, D] whose rows are equal."""
        _, _, x = self.features(image)
        w: Tensor = self.linear(x.mean((2, 3)))
        return w[:, None].expand(-1, self.config.layer_count, -1)  # [N, L, D]


class PooledEncoder(Backbone):
    """``BackboneEncoderUsingLastLayerIntoWPlus``: all rows from the last map, pooled to 7 x 7."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        top, height, width = config.widths[4], config.input_size_px[0] // 16, config.input_size_px[1] // 16
        self.output_layer_2 = nn.Sequential(
            nn.BatchNorm2d(top),
            AdaptiveMeanPool(height, width),
            nn.Flatten(),  # channel, row, column
            nn.Linear(top * POOLED_SIDE**2, config.w_dim),
        )
        self.linear = EqualLinear(config.w_dim, config.w_dim * config.layer_count)

    def forward(self, image: Tensor) -> Tensor:
        """Map float32[N, C, H, W] to offsets float32[N, L, D]."""
        _, _, x = self.features(image)
        codes: Tensor = self.linear(self.output_layer_2(x))  # [N, L * D]
        return codes.reshape(-1, self.config.layer_count, self.config.w_dim)  # [N, L, D]


class AdaptiveMeanPool(nn.Module):
    """Adaptive average pooling to 7 x 7 as two constant matrices: ONNX has no operator with unequal windows.

    Window i covers the rows floor(i H / 7) to ceil((i + 1) H / 7) - 1; neighbors overlap.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", _window_means(height), persistent=False)
        self.register_buffer("columns", _window_means(width).t(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, C, H, W] to float32[N, C, 7, 7]."""
        return self.rows @ x @ self.columns


def _window_means(side: int) -> Tensor:
    matrix = torch.zeros(POOLED_SIDE, side)
    for i in range(POOLED_SIDE):
        start, end = i * side // POOLED_SIDE, math.ceil((i + 1) * side / POOLED_SIDE)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


def _double(x: Tensor) -> Tensor:
    # By a factor, not to a size: onnxruntime computes sizes on the CPU, and could not capture a CUDA graph.
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


Encoder = PyramidEncoder | MeanEncoder | PooledEncoder


def make_encoder(config: EncoderConfig) -> Encoder:
    """Make the network of a configuration, with weights as torch initializes them."""
    match config.encoder_type:
        case "GradualStyleEncoder" | "Encoder4Editing":
            return PyramidEncoder(config)
        case "BackboneEncoderUsingLastLayerIntoWPlus":
            return PooledEncoder(config)
        case "BackboneEncoderUsingLastLayerIntoW" | "SingleStyleCodeEncoder":
            return MeanEncoder(config)
