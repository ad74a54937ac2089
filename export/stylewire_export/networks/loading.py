"""Checkpoints to networks: the structure from names and shapes, then the weights, strictly.

The readers have compared all shapes with one another; here they are only counted and sized.
"""

import re

import numpy as np
import torch
from torch import Tensor, nn

from stylewire_export.checkpoints.config import (
    DcganConfig,
    EncoderCheckpoint,
    GeneratorCheckpoint,
    PlainCheckpoint,
    StyleGan1Checkpoint,
)
from stylewire_export.checkpoints.encoder_layout import COARSE_STYLES, MIDDLE_STYLES
from stylewire_export.checkpoints.shapes import COUNTER
from stylewire_export.errors import CheckpointError, quote
from stylewire_export.networks.anime import AnimeFaces
from stylewire_export.networks.dcgan import Dcgan
from stylewire_export.networks.encoder import Encoder, EncoderConfig, make_encoder
from stylewire_export.networks.generator import Generator
from stylewire_export.networks.stylegan1 import StyleGan1

MEAN_SEED, MEAN_SAMPLE_COUNT = 123, 10_000  # as many as Karras et al. 2020, appendix D; the seed makes exports repeat
DERIVED_NAMES = ("resample_filter", COUNTER, "w_avg")  # the configuration or this module supplies them


def load_generator(checkpoint: GeneratorCheckpoint) -> Generator:
    """Make the generator of a checkpoint.

    Where the file has no mean of w, it is estimated from seeded samples.

    Raises:
        CheckpointError: tensors are missing or left over.
    """
    generator = Generator(checkpoint.config)
    _load(generator, checkpoint.state, "generator")
    generator.eval().requires_grad_(requires_grad=False)
    if not checkpoint.has_w_avg:
        generator.mapping.w_avg.copy_(_sample_mean(generator))
    return generator


def load_stylegan1(checkpoint: StyleGan1Checkpoint) -> StyleGan1:
    """Make the StyleGAN1 generator of a checkpoint; the mean of w is estimated from seeded samples.

    Raises:
        CheckpointError: tensors are missing or left over.
    """
    generator = StyleGan1(checkpoint.config)
    _load(generator, checkpoint.state, "generator")
    generator.eval().requires_grad_(requires_grad=False)
    generator.mapping.w_avg.copy_(_sample_mean(generator))
    return generator


def load_plain(checkpoint: PlainCheckpoint) -> nn.Module:
    """Make a generator without styles, z (, label) -> image.

    Raises:
        CheckpointError: tensors are missing or left over.
    """
    config = checkpoint.config
    generator = Dcgan(config) if isinstance(config, DcganConfig) else AnimeFaces(config)
    _load(generator, checkpoint.state, "generator")
    return generator.eval().requires_grad_(requires_grad=False)


def load_encoder(checkpoint: EncoderCheckpoint) -> Encoder:
    """Make the encoder of a checkpoint.

    Raises:
        CheckpointError: tensors are missing or left over.
    """
    encoder = make_encoder(encoder_config(checkpoint))
    _load(encoder, checkpoint.state, "encoder")
    return encoder.eval().requires_grad_(requires_grad=False)


def encoder_config(checkpoint: EncoderCheckpoint) -> EncoderConfig:
    """Derive the structure of an encoder from the names and shapes of its tensors."""
    state = checkpoint.state

    def width(name: str) -> int:
        return state[f"{name}.weight"].shape[0]

    unit_counts = _unit_counts(state)
    first, second, third, fourth = (sum(unit_counts[: stage + 1]) - 1 for stage in range(4))  # last unit of each stage
    return EncoderConfig(
        encoder_type=checkpoint.encoder_type,
        input_channels=checkpoint.input_channels,
        input_size_px=checkpoint.input_size_px,
        layer_count=checkpoint.layer_count,
        w_dim=checkpoint.w_dim,
        widths=(
            width("input_layer.0"),
            width(f"body.{first}.res_layer.3"),
            width(f"body.{second}.res_layer.3"),
            width(f"body.{third}.res_layer.3"),
            width(f"body.{fourth}.res_layer.3"),
        ),
        unit_counts=unit_counts,
        squeeze_widths=(
            width(f"body.{first}.res_layer.5.fc1"),
            width(f"body.{second}.res_layer.5.fc1"),
            width(f"body.{third}.res_layer.5.fc1"),
            width(f"body.{fourth}.res_layer.5.fc1"),
        ),
        head_depths=(_head_depth(state, 0), _head_depth(state, COARSE_STYLES), _head_depth(state, MIDDLE_STYLES)),
    )


def _unit_counts(state: dict[str, Tensor]) -> tuple[int, int, int, int]:
    """Count the units of the stages; a convolution in the shortcut stands at the start of the second, third, fourth."""
    count = len({name.split(".")[1] for name in state if name.startswith("body.")})
    second, third, fourth = (k for k in range(count) if f"body.{k}.shortcut_layer.0.weight" in state)
    return second, third - second, fourth - third, count - fourth


def _head_depth(state: dict[str, Tensor], head: int) -> int:
    return sum(re.fullmatch(rf"styles\.{head}\.convs\.\d+\.weight", name) is not None for name in state)


def _load(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load weights strictly, apart from ``DERIVED_NAMES``."""
    missing, surplus = network.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith(DERIVED_NAMES)]
    for names, problem in ((missing, "are missing"), (surplus, "are not part of it")):
        if names:
            shown = ", ".join(quote(name) for name in names[:3])
            raise CheckpointError(
                f"The {what} is not what its file describes: {len(names)} tensors {problem} ({shown})"
            )


def _sample_mean(generator: Generator | StyleGan1) -> Tensor:
    """Estimate the mean of w, float32[D], from seeded samples of z and of the labels."""
    config, random = generator.config, np.random.RandomState(MEAN_SEED)
    z = torch.from_numpy(random.randn(MEAN_SAMPLE_COUNT, config.z_dim).astype(np.float32))
    inputs = [z]
    if config.label_dim:
        classes = random.randint(config.label_dim, size=MEAN_SAMPLE_COUNT)
        inputs.append(torch.from_numpy(np.eye(config.label_dim, dtype=np.float32)[classes]))
    w: Tensor = generator.mapping(*inputs)
    return w.mean(0)
