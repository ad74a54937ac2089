"""Small generators with random weights, exported as a user exports: checkpoint -> bundle -> directory."""

from pathlib import Path

import torch

from stylewire_export.bundle import ExportJob, export_model
from stylewire_export.checkpoints.config import GeneratorConfig
from stylewire_export.networks.generator import Generator


def random_generator(*, seed: int, label_dim: int = 0, image_channels: int = 3, resolution_px: int = 32) -> Generator:
    """Make a generator: Z = D = 16, 8 rows at 32 px; equal seeds give equal weights."""
    config = GeneratorConfig(
        z_dim=16,
        w_dim=16,
        label_dim=label_dim,
        resolution_px=resolution_px,
        image_channels=image_channels,
        mapping_layer_count=2,
        mapping_lr_multiplier=0.01,
        architecture="skip",
        channels=tuple((2**k, 16 if k < 4 else 8) for k in range(2, resolution_px.bit_length())),
        conv_clamp=None,
        use_noise=True,
        resample_filter=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
        fp16_resolution_count=0,
        embed_dim=16 if label_dim else 0,
        layer_dim=16,
    )
    torch.manual_seed(seed)
    generator = Generator(config)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)  # new generators have none, and then no noise mode can be told from another
    return generator


def export_random_model(
    out: Path, name: str, *, latent_space: str | None = None, formats=("onnx", "torchscript"), **options
) -> Path:
    """Write the model directory ``out/name`` of a ``random_generator(**options)``."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / f"{name}.pt"
    torch.save({"g_ema": random_generator(**options).state_dict()}, checkpoint)
    export_model(ExportJob(generator=checkpoint, name=name, out=out, latent_space=latent_space, formats=formats))
    checkpoint.unlink()
    return out / name
