"""The StyleGAN2 generator, from scratch: mapping z -> w and synthesis w+ -> image.

Sources: Karras et al. 2020 (StyleGAN2, arXiv 1912.04958), Karras et al. 2020 (ADA, arXiv 2006.06676). State-dict names
are those of published stylegan2-ada-pytorch checkpoints. Convolutions use the scaled form: activations are multiplied
by the styles and the weights are shared by the batch, so that N can be dynamic. Inference and training use this class.
Shape legend: N batch, Z z_dim, D w_dim, L layers, C image channels, I O channels, R resolution, r block resolution,
P noise values of all layers.
"""

import math
from collections.abc import Iterator
from itertools import pairwise, repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stylewire_export.checkpoints.config import GeneratorConfig
from stylewire_export.networks.ops import (
    SLOPE,
    SQRT2,
    EqualLinear,
    Smoothing,
    Upsampling,
    normalize_second_moment,
    split_noise,
)

HALF = math.sqrt(0.5)  # gain of both branches of a residual block


class Noise(NamedTuple):
    """What one layer adds to its activations before the bias.

    Attributes:
        strength: float32[N, 1, 1, 1], factor of the layer's stored noise map.
        values: float32[N, 1, r, r], further noise.
    """

    strength: Tensor
    values: Tensor


class Mapping(nn.Module):
    """z (and label) -> w, a normalized fully connected network.

    Source: Karras et al. 2019, section 2; the label is embedded as in Karras et al. 2020 (ADA).
    """

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        label_size = config.embed_dim if config.label_dim else 0
        sizes = [config.z_dim + label_size, *[config.layer_dim] * (config.mapping_layer_count - 1), config.w_dim]
        if config.label_dim:
            plain = config.label_concat  # TensorFlow StyleGAN2 multiplies the label by a matrix as it is
            self.embed = (
                nn.Linear(config.label_dim, label_size, bias=False)
                if plain
                else EqualLinear(config.label_dim, label_size)
            )
        for index, (in_size, out_size) in enumerate(pairwise(sizes)):
            layer = EqualLinear(in_size, out_size, lr_multiplier=config.mapping_lr_multiplier, activated=True)
            self.add_module(f"fc{index}", layer)
        self.layer_count, self.label_concat = config.mapping_layer_count, config.label_concat
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Map float32[N, Z] and, if conditional, float32[N, label_dim] to w float32[N, D]."""
        if self.label_concat:
            x = normalize_second_moment(torch.cat([z, self.embed(label)], 1))
        elif label is not None:
            x = torch.cat([normalize_second_moment(z), normalize_second_moment(self.embed(label))], 1)
        else:
            x = normalize_second_moment(z)
        for index in range(self.layer_count):
            x = self.get_submodule(f"fc{index}")(x)
        return x


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU.

    ``y = clamp(lrelu(d * conv(x * s, W) + noise + b) * sqrt 2)`` with styles ``s = affine(w)`` and
    ``d = rsqrt(sum_I s^2 sum_kk W^2 + 1e-8)``, which equals modulating and demodulating W for every sample.
    The last layer of a residual block scales y and the limit by sqrt 0.5.

    Args:
        config: of the generator.
        in_channels: I.
        out_channels: O.
        resolution_px: r, of the output.
        upsampled: double the size first (``conv0`` of a block).

    Source: Karras et al. 2020, section 2.2, equations 1 to 3.
    """

    noise_const: Tensor

    def __init__(
        self,
        config: GeneratorConfig,
        in_channels: int,
        out_channels: int,
        resolution_px: int,
        *,
        upsampled: bool = False,
    ) -> None:
        super().__init__()
        self.affine = EqualLinear(config.w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if config.use_noise:
            self.noise_strength = nn.Parameter(torch.zeros([]))
            self.register_buffer("noise_const", torch.randn(resolution_px, resolution_px))
        _register_filter(self, config)
        self.smoothing = Smoothing(config.resample_filter, out_channels) if upsampled else None
        gain = HALF if config.architecture == "resnet" and resolution_px > 4 and not upsampled else 1.0
        self.gain = SQRT2 * gain
        self.clamp = None if config.conv_clamp is None else config.conv_clamp * gain

    def forward(self, x: Tensor, w: Tensor, noise: Noise | None) -> Tensor:
        """Map float32[N or 1, I, H, W] and w float32[N, D] to float32[N, O, r, r]."""
        styles = self.affine(w)  # [N, I]
        x = x * styles[:, :, None, None]
        kernel = self.weight.transpose(0, 1)  # [I, O, 3, 3]
        if self.smoothing is not None:
            x = self.smoothing(functional.conv_transpose2d(x, kernel, stride=2))
        else:
            x = functional.conv2d(x, self.weight, padding=1)
        energy = kernel.square().sum((2, 3))  # [I, O]
        # The gain goes into the factors: lrelu(y) * g == lrelu(y * g) for g > 0, and small tensors are cheaper.
        scale = (styles.square() @ energy + 1e-8).rsqrt() * self.gain
        x = x * scale[:, :, None, None]
        if noise is not None:
            x = x + (self.noise_const * noise.strength + noise.values) * (self.noise_strength * self.gain)
        x = functional.leaky_relu(x + (self.bias * self.gain)[:, None, None], SLOPE)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToImage(nn.Module):
    """Modulated 1x1 convolution without demodulation: activations -> image (``torgb`` in checkpoints)."""

    def __init__(self, config: GeneratorConfig, in_channels: int) -> None:
        super().__init__()
        self.affine = EqualLinear(config.w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(config.image_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.image_channels))
        self.weight_gain, self.clamp = 1 / math.sqrt(in_channels), config.conv_clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map float32[N, I, r, r] and w float32[N, D] to float32[N, C, r, r]."""
        styles = self.affine(w) * self.weight_gain
        x = functional.conv2d(x * styles[:, :, None, None], self.weight, self.bias)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class Skip(nn.Module):
    """Residual branch of a 'resnet' block: 1x1 convolution, then up-sampling."""

    def __init__(self, config: GeneratorConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        _register_filter(self, config)
        self.upsampling = Upsampling(config.resample_filter, out_channels)
        self.weight_gain = HALF / math.sqrt(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, I, H, W] to float32[N, O, 2H, 2W]."""
        y: Tensor = self.upsampling(functional.conv2d(x, self.weight * self.weight_gain))
        return y


class Block(nn.Module):
    """All layers of one resolution: conv0 (up-sampling), conv1, and the image output where there is one."""

    def __init__(self, config: GeneratorConfig, in_channels: int, out_channels: int, resolution_px: int) -> None:
        super().__init__()
        residual = config.architecture == "resnet" and resolution_px > 4
        if resolution_px == 4:
            self.const = nn.Parameter(torch.randn(out_channels, 4, 4))
        else:
            self.conv0 = StyledConv(config, in_channels, out_channels, resolution_px, upsampled=True)
        self.conv1 = StyledConv(config, out_channels, out_channels, resolution_px)
        self.skip = Skip(config, in_channels, out_channels) if residual else None
        drawing = config.architecture == "skip" or resolution_px == config.resolution_px
        self.torgb = ToImage(config, out_channels) if drawing else None
        _register_filter(self, config)
        self.upsampling = Upsampling(config.resample_filter, config.image_channels)

    def forward(
        self, x: Tensor | None, image: Tensor | None, codes: tuple[Tensor, ...], noises: Iterator[Noise | None]
    ) -> tuple[Tensor, Tensor | None]:
        """Run the block.

        Args:
            x: float32[N, I, r/2, r/2], None for the first block.
            image: float32[N, C, r/2, r/2], None while nothing is drawn.
            codes: one w float32[N, D] for each of the block's layers.
            noises: noise of the layers, in order; the block takes what it needs.

        Returns:
            x float32[N, O, r, r] and the image float32[N, C, r, r].
        """
        *conv_codes, image_code = codes
        if x is None:
            x = self.conv1(self.const[None], conv_codes[0], next(noises))  # [1, O, 4, 4]: the styles have N
        else:
            shortcut = None if self.skip is None else self.skip(x)
            x = self.conv0(x, conv_codes[0], next(noises))
            x = self.conv1(x, conv_codes[1], next(noises))
            x = x if shortcut is None else x + shortcut
        if image is not None:
            image = self.upsampling(image)
        if self.torgb is not None:
            drawn = self.torgb(x, image_code)
            image = drawn if image is None else image + drawn
        return x, image


class Synthesis(nn.Module):
    """w+ -> image.

    A row of the code is shared by the image output of one block and the first convolution of the next.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        in_channels = 0
        for resolution_px, out_channels in config.channels:
            self.add_module(f"b{resolution_px}", Block(config, in_channels, out_channels, resolution_px))
            in_channels = out_channels
        self.resolutions_px = [resolution_px for resolution_px, _ in config.channels]
        self.layer_count = 2 * len(self.resolutions_px)
        self.noise_sides_px = [4, *[r for r in self.resolutions_px[1:] for _ in range(2)]] if config.use_noise else []
        self.noise_size = sum(side * side for side in self.noise_sides_px)

    def forward(self, w_plus: Tensor, noise_strength: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Draw images.

        Args:
            w_plus: float32[N, L, D].
            noise_strength: float32[N], factor of the stored noise maps: 1 as trained, 0 for none.
            noise: float32[N, P'], 0 < P' <= P, further noise for all layers, flattened in layer order; the rest is 0.

        Both noise arguments are required, unless the network was built without noise.

        Returns:
            float32[N, C, R, R], nominally in [-1, 1], not clamped.
        """
        rows, noises = w_plus.unbind(1), self._layer_noises(noise_strength, noise)
        x: Tensor | None = None
        image: Tensor | None = None
        for index, resolution_px in enumerate(self.resolutions_px):
            codes = rows[max(0, 2 * index - 1) : 2 * index + 2]
            x, image = self.get_submodule(f"b{resolution_px}")(x, image, codes, noises)
        assert image is not None  # the last block always draws
        return image

    def _layer_noises(self, strength: Tensor | None, noise: Tensor | None) -> Iterator[Noise | None]:
        """Return the noise of every convolution, in layer order, from float32[N] and float32[N, P']."""
        if not self.noise_sides_px:
            return repeat(None)
        if strength is None or noise is None:
            raise TypeError("this network has noise layers: pass noise_strength and noise")
        factor = strength[:, None, None, None]
        return (Noise(factor, values) for values in split_noise(noise, self.noise_sides_px))


class Generator(nn.Module):
    """Mapping and synthesis network of one checkpoint; state-dict names as in stylegan2-ada-pytorch."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)


def _register_filter(module: nn.Module, config: GeneratorConfig) -> None:
    """Keep the published name of the filter, so that state dicts are interchangeable both ways."""
    taps = torch.tensor(config.resample_filter)
    module.register_buffer("resample_filter", torch.outer(taps, taps))
