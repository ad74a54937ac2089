"""The graphs of a model directory as PyTorch modules: their names, inputs, outputs and example inputs.

A graph wraps a network with what belongs to the exported form only: bytes out of the synthesis, the mean code added
to the encoder's offsets. Shape legend: N batch, Z z_dim, D w_dim, L layers, P noise values, C channels, R resolution.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stylewire.latents import Array
from stylewire_export.checkpoints.config import PixelRule
from stylewire_export.networks.encoder import Encoder
from stylewire_export.networks.generator import Generator
from stylewire_export.networks.stylegan1 import StyleGan1

Examples = Callable[[int], Mapping[str, Array]]

CHECK_NOISE_SIZE = 4096  # cuts the noise of the two-item example: at 1024 px all of it would be 22 MB of check.npz


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One network in its exported form.

    Attributes:
        name: as in the model directory, such as ``synthesis``.
        module: takes the inputs by position and returns one tensor or a tuple in the order of ``outputs``.
        inputs: names; axis 0 of each is N.
        outputs: names; axis 0 of each is N.
        examples: batch size -> a valid, seeded value of every input; always the same for the same size.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    examples: Examples

    def __post_init__(self) -> None:
        """Leave training: what is exported is the inference form."""
        self.module.eval().requires_grad_(requires_grad=False)

    def run(self, values: Mapping[str, Array]) -> dict[str, NDArray[np.generic]]:
        """Run the PyTorch module: input name -> array to output name -> array."""
        return run_module(self.module, self.inputs, self.outputs, values)


def run_module(
    module: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...], values: Mapping[str, Array]
) -> dict[str, NDArray[np.generic]]:
    """Run a module whose inputs and outputs have names here, and positions there."""
    with torch.inference_mode():
        result = module(*(torch.from_numpy(values[name]) for name in inputs))
    tensors = result if isinstance(result, tuple) else (result,)
    return {name: tensor.numpy() for name, tensor in zip(outputs, tensors, strict=True)}


class SynthesisWithPixels(nn.Module):
    """Synthesis that also returns the image as bytes, so that 8-bit images, not floats, leave the device.

    Args:
        synthesis: returns float32[N, C, R, R]; may also be a whole generator without styles.
        rule: ``round`` as NVIDIA's tools do, ``truncate`` as pSp's ``tensor2im`` does (half a level darker).
    """

    synthesis: nn.Module

    def __init__(self, synthesis: nn.Module, rule: PixelRule) -> None:
        super().__init__()
        self.synthesis, self.rule = synthesis, rule

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map the network's inputs to pixels uint8[N, R, R, C] and the image float32[N, C, R, R]."""
        image: Tensor = self.synthesis(*inputs)
        return self.levels(image).to(torch.uint8), image

    def levels(self, image: Tensor) -> Tensor:
        """Map float32[N, C, R, R] to float32[N, R, R, C], whose integer parts are the bytes."""
        # (x + 1) * 127.5 is what pSp writes; x * 127.5 + 127.5 can round differently.
        levels = image * 127.5 + 128 if self.rule == "round" else (image + 1) * 127.5
        return levels.clamp(0, 255).permute(0, 2, 3, 1)


class EncoderWithMean(nn.Module):
    """Encoder that adds the mean code: image -> w+ code.

    Args:
        encoder: returns offsets float32[N, L, D].
        mean_code: float32[L, D].
    """

    encoder: nn.Module
    mean_code: Tensor

    def __init__(self, encoder: nn.Module, mean_code: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean_code", mean_code)

    def forward(self, image: Tensor) -> Tensor:
        """Map float32[N, C, H, W] to codes float32[N, L, D]."""
        offsets: Tensor = self.encoder(image)
        return offsets + self.mean_code


def mapping_graph(generator: Generator | StyleGan1) -> Graph:
    """Make the graph z float32[N, Z] (, label float32[N, label_dim]) -> w float32[N, D]."""
    config = generator.config

    def examples(batch_size: int) -> dict[str, Array]:
        return latent_examples(batch_size, config.z_dim, config.label_dim)

    inputs = ("z", "label") if config.label_dim else ("z",)
    return Graph(name="mapping", module=generator.mapping, inputs=inputs, outputs=("w",), examples=examples)


def synthesis_graph(generator: Generator | StyleGan1) -> Graph:
    """Make the graph w_plus (, noise_strength, noise) -> pixels, image.

    Shapes: w_plus float32[N, L, D], noise_strength float32[N], noise float32[N, up to P], pixels uint8[N, R, R, C],
    image float32[N, C, R, R].
    """
    mapping, synthesis = mapping_graph(generator), generator.synthesis

    def examples(batch_size: int) -> dict[str, Array]:
        rows = mapping.run(mapping.examples(batch_size * synthesis.layer_count))["w"].astype(np.float32)
        values = {"w_plus": rows.reshape(batch_size, synthesis.layer_count, -1)}  # every row another w
        return values | (_noise_examples(batch_size, synthesis.noise_size) if synthesis.noise_size else {})

    inputs = ("w_plus", "noise_strength", "noise") if synthesis.noise_size else ("w_plus",)
    module = SynthesisWithPixels(synthesis, generator.config.pixel_rule)
    return Graph(name="synthesis", module=module, inputs=inputs, outputs=("pixels", "image"), examples=examples)


def generator_graph(network: nn.Module, z_dim: int, label_dim: int) -> Graph:
    """Make the only graph of a generator without styles: z (, label) -> pixels, image, shaped as above."""

    def examples(batch_size: int) -> dict[str, Array]:
        return latent_examples(batch_size, z_dim, label_dim)

    inputs = ("z", "label") if label_dim else ("z",)
    module = SynthesisWithPixels(network, "round")
    return Graph(name="generator", module=module, inputs=inputs, outputs=("pixels", "image"), examples=examples)


def encoder_graph(name: str, encoder: Encoder, mean_code: Tensor) -> Graph:
    """Make the graph image -> w+."""
    config = encoder.config

    def examples(batch_size: int) -> dict[str, Array]:
        shape = (batch_size, config.input_channels, *config.input_size_px)
        return {"image": np.random.RandomState(batch_size).uniform(-1, 1, shape).astype(np.float32)}

    module = EncoderWithMean(encoder, mean_code)
    return Graph(name=name, module=module, inputs=("image",), outputs=("w_plus",), examples=examples)


def latent_examples(batch_size: int, z_dim: int, label_dim: int) -> dict[str, Array]:
    """Draw seeded z float32[N, Z] and, for a conditional network, one-hot labels float32[N, label_dim]."""
    random = np.random.RandomState(batch_size)
    values = {"z": random.randn(batch_size, z_dim).astype(np.float32)}
    if label_dim:
        values["label"] = np.eye(label_dim, dtype=np.float32)[random.randint(label_dim, size=batch_size)]
    return values


def _noise_examples(batch_size: int, noise_size: int) -> dict[str, Array]:
    """Make noise_strength float32[N] and noise float32[N, up to P] that cover the modes of the service.

    One item is CONST, two have a prefix of new noise, more mix CONST, NONE and RANDOM.
    """
    random = np.random.RandomState(batch_size)
    if batch_size == 1:
        return {"noise_strength": np.ones(1, np.float32), "noise": np.zeros((1, 1), np.float32)}
    if batch_size == 2:
        noise = random.randn(2, min(noise_size, CHECK_NOISE_SIZE)).astype(np.float32)
        return {"noise_strength": np.array([1, 0.5], np.float32), "noise": noise}
    modes = np.arange(batch_size) % 3
    noise = random.randn(batch_size, noise_size).astype(np.float32) * (modes == 2)[:, None]
    return {"noise_strength": (modes == 0).astype(np.float32), "noise": noise.astype(np.float32)}
