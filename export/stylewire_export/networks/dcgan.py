"""The DCGAN generator, from scratch: noise (and label) -> image by transposed convolutions.

Source: Radford et al. 2016 (arXiv 1511.06434), section 3 and figure 1. State-dict names are those of PyTorch's example.
Shape legend: N batch, Z z_dim, C image channels, R resolution.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from stylewire_export.checkpoints.config import DcganConfig


class Dcgan(nn.Module):
    """Transposed 4x4 convolutions with batch norm and ReLU; the last makes the image through tanh."""

    def __init__(self, config: DcganConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = pairwise((config.input_dim, *config.widths))
        for index, ((in_width, out_width), biased) in enumerate(zip(sizes, config.biased, strict=True)):
            # The input is one pixel: without stride and padding it becomes 4 x 4, then every layer doubles the side.
            stride, padding = (2, 1) if index else (1, 0)
            layers.append(nn.ConvTranspose2d(in_width, out_width, 4, stride, padding, bias=biased))
            last = index == len(config.widths) - 1
            layers += [nn.Tanh()] if last else [nn.BatchNorm2d(out_width), nn.ReLU()]
        self.main = nn.Sequential(*layers)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Map float32[N, Z] and, if conditional, float32[N, label_dim] to float32[N, C, R, R] in [-1, 1]."""
        x = z if label is None else torch.cat([z, label], 1)
        image: Tensor = self.main(x[:, :, None, None])
        return image
