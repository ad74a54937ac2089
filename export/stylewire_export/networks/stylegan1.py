"""The StyleGAN1 generator, from scratch: mapping z -> w and synthesis w+ -> image.

Source: Karras et al. 2019 (arXiv 1812.04948), sections 2 and 3 and appendix C. The gains of the equalized layers are
part of the weights here, since the network is not trained. Shape legend: N batch, Z z_dim, D w_dim, L layers,
C image channels, I O channels, R resolution, r block resolution, P noise values of all blocks.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from stylewire_export.checkpoints.config import StyleGan1Config
from stylewire_export.checkpoints.families.stylegan1 import BLUR
from stylewire_export.networks.ops import SLOPE, normalize_second_moment, split_noise

NORM_EPSILON = 1e-5  # of the instance normalization in rosinality's port


class Mapping(nn.Module):
    """z -> w, fully connected layers behind a normalization."""

    w_avg: Tensor

    def __init__(self, config: StyleGan1Config) -> None:
        super().__init__()
        for index, (in_size, out_size) in enumerate(pairwise((config.z_dim, *config.mapping_widths))):
            self.add_module(f"fc{index}", nn.Linear(in_size, out_size))
        self.layer_count = len(config.mapping_widths)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor) -> Tensor:
        """Map float32[N, Z] to w float32[N, D]."""
        x = normalize_second_moment(z)
        for index in range(self.layer_count):
            x = functional.leaky_relu(self.get_submodule(f"fc{index}")(x), SLOPE)
        return x


class Style(nn.Module):
    """What follows every convolution: noise, leaky ReLU, and a normalization whose scale and shift come from w.

    Source: Karras et al. 2019, equation 1 (AdaIN).
    """

    def __init__(self, w_dim: int, width: int) -> None:
        super().__init__()
        self.noise_weight = nn.Parameter(torch.zeros(width))
        self.affine = nn.Linear(w_dim, 2 * width)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """Map float32[N or 1, I, r, r], w float32[N, D] and noise float32[N, 1, r, r] to float32[N, I, r, r]."""
        x = functional.leaky_relu(x + self.noise_weight[:, None, None] * noise, SLOPE)
        scale, shift = self.affine(w)[:, :, None, None].chunk(2, 1)
        # Written out: the exporter of ``functional.instance_norm`` loses the number of channels when N is dynamic.
        x = x - x.mean((2, 3), keepdim=True)
        deviation = (x.square().mean((2, 3), keepdim=True) + NORM_EPSILON).rsqrt()  # [N, I, 1, 1]
        y: Tensor = x * (deviation * scale) + shift
        return y


class Up(nn.Module):
    """Double the size by a transposed 4x4 convolution, then smooth."""

    kernel: Tensor

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(in_width, out_width, 4, 4))
        self.bias = nn.Parameter(torch.zeros(out_width))
        kernel = torch.outer(torch.tensor(BLUR), torch.tensor(BLUR))
        self.register_buffer("kernel", kernel.repeat(out_width, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, I, H, W] to float32[N, O, 2H, 2W]."""
        x = functional.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)
        return functional.conv2d(x, self.kernel, padding=1, groups=x.shape[1])


class Block(nn.Module):
    """The two layers of one resolution, which share one noise map."""

    noise_const: Tensor

    def __init__(self, w_dim: int, in_width: int, width: int, resolution_px: int) -> None:
        super().__init__()
        if resolution_px == 4:
            self.const = nn.Parameter(torch.zeros(width, 4, 4))
        else:
            self.up = Up(in_width, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.style1, self.style2 = Style(w_dim, width), Style(w_dim, width)
        self.register_buffer("noise_const", torch.zeros(resolution_px, resolution_px))

    def forward(self, x: Tensor | None, codes: tuple[Tensor, ...], strength: Tensor, noise: Tensor) -> Tensor:
        """Run the block.

        Args:
            x: float32[N, I, r/2, r/2], None for the first block.
            codes: two w, each float32[N, D].
            strength: float32[N, 1, 1, 1], factor of the stored noise map.
            noise: float32[N, 1, r, r], further noise.

        Returns:
            float32[N, O, r, r].
        """
        noise = self.noise_const * strength + noise
        x = self.const[None] if x is None else self.up(x)  # [1, O, 4, 4] at first: the noise has N
        x = self.style1(x, codes[0], noise)
        y: Tensor = self.style2(self.conv(x), codes[1], noise)
        return y


class Synthesis(nn.Module):
    """w+ -> image; every block takes two rows of the code, the image output takes none."""

    def __init__(self, config: StyleGan1Config) -> None:
        super().__init__()
        in_width = 0
        for resolution_px, width in config.channels:
            self.add_module(f"b{resolution_px}", Block(config.w_dim, in_width, width, resolution_px))
            in_width = width
        self.torgb = nn.Conv2d(in_width, config.image_channels, 1)
        self.noise_sides_px = [resolution_px for resolution_px, _ in config.channels]
        self.layer_resolutions_px = tuple(side for side in self.noise_sides_px for _ in range(2))
        self.layer_count = len(self.layer_resolutions_px)
        self.noise_size = sum(side * side for side in self.noise_sides_px)

    def forward(self, w_plus: Tensor, noise_strength: Tensor, noise: Tensor) -> Tensor:
        """Draw images.

        Args:
            w_plus: float32[N, L, D].
            noise_strength: float32[N], factor of the stored noise maps: 1 for these, 0 for none.
            noise: float32[N, P'], 0 < P' <= P, further noise, one map a block, flattened in order; the rest is 0.

        Returns:
            float32[N, C, R, R], nominally in [-1, 1], not clamped.
        """
        rows, strength = w_plus.unbind(1), noise_strength[:, None, None, None]
        x: Tensor | None = None
        for index, values in enumerate(split_noise(noise, self.noise_sides_px)):
            block = self.get_submodule(f"b{self.noise_sides_px[index]}")
            x = block(x, rows[2 * index : 2 * index + 2], strength, values)
        image: Tensor = self.torgb(x)
        return image


class StyleGan1(nn.Module):
    """Mapping and synthesis network of one checkpoint."""

    def __init__(self, config: StyleGan1Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)
