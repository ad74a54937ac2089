"""What the demo models are: their dimensions, their data, and the few lines that every script of the recipe shares."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stylewire.latents import sample_z
from stylewire_export.checkpoints import GeneratorConfig
from stylewire_export.networks.encoder import EncoderConfig
from stylewire_export.networks.generator import Generator

SIDE_PX = 64
GENERATOR = GeneratorConfig(
    z_dim=128,
    w_dim=128,
    label_dim=0,
    embed_dim=0,
    layer_dim=128,
    mapping_layer_count=4,
    resolution_px=SIDE_PX,
    image_channels=3,
    architecture="skip",
    channels=((4, 128), (8, 128), (16, 64), (32, 32), (64, 16)),
    use_noise=True,
    resample_filter=(0.125, 0.375, 0.375, 0.125),
)
ENCODER = EncoderConfig(
    encoder_type="GradualStyleEncoder",
    input_channels=3,
    input_size_px=(SIDE_PX, SIDE_PX),
    layer_count=10,
    w_dim=128,
    widths=(24, 24, 48, 96, 128),
    unit_counts=(2, 2, 3, 2),
    squeeze_widths=(1, 3, 6, 8),
    head_depths=(2, 3, 4),
)


def read_images(path: Path) -> Tensor:
    """Read a raw file of images as uint8[count, 64, 64, 3]."""
    return torch.from_numpy(np.fromfile(path, np.uint8).reshape(-1, SIDE_PX, SIDE_PX, 3))


def draw(images: Tensor, count: int, device: torch.device) -> Tensor:
    """Draw random images as float32[count, 3, 64, 64] in [-1, 1]."""
    chosen = images[torch.randint(len(images), (count,))].to(device)
    return chosen.permute(0, 3, 1, 2).float() / 127.5 - 1  # [N, 3, 64, 64]


def synthesize(generator: Generator, codes: Tensor, noise_mode: str) -> Tensor:
    """Draw codes float32[N, L, D] as float32[N, C, R, R], with ``const``, ``random`` or ``none`` noise."""
    count, size = len(codes), generator.synthesis.noise_size
    strength = torch.full((count,), float(noise_mode == "const"), device=codes.device)
    noise = torch.randn(count, size, device=codes.device) if noise_mode == "random" else codes.new_zeros(count, 1)
    images: Tensor = generator.synthesis(codes, strength, noise)
    return images


def seed_latents(seeds: range) -> Tensor:
    """Draw the z of some seeds, float32[N, Z], as the published tools do."""
    return torch.from_numpy(np.stack([sample_z(seed, GENERATOR.z_dim) for seed in seeds]))
