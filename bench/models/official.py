"""The published form, for comparison: eager PyTorch, weights of every sample's own in one grouped convolution.

The low-pass filters are square and applied to padded copies, and images are doubled by zeros in between, as the
published code does on a CPU. Mapping networks and encoders have one form only.

Source: Karras et al. 2020 (StyleGAN2), section 2.2, equations 1 to 3, and appendix B on the grouped convolution.
Shape legend: N batch, I O channels, H W sizes in pixels, D w_dim.
"""

import contextlib
import ctypes
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from stylewire_export.checkpoints import read_any_generator, read_encoder
from stylewire_export.checkpoints.config import GeneratorCheckpoint
from stylewire_export.graphs import Graph, encoder_graph, mapping_graph, synthesis_graph
from stylewire_export.networks.generator import Block, Noise, StyledConv
from stylewire_export.networks.loading import load_encoder, load_generator

SLOPE = 0.2


class Official:
    """A network in the published form, with the face of a backend."""

    precision = "fp32"

    def __init__(self, checkpoint: Path, graph: str, threads: int) -> None:
        self._graph, self._threads = official_graph(checkpoint, graph), threads
        # What reading a checkpoint has taken and freed is not the network's, and would count as its memory.
        with contextlib.suppress(AttributeError):  # glibc has it, others have not
            ctypes.CDLL(None).malloc_trim(0)

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Run one batch."""
        torch.set_num_threads(self._threads)
        made = self._graph.run(inputs)
        return {name: made[name] for name in outputs}

    def close(self) -> None:
        """Free the network."""
        del self._graph


def official_graph(checkpoint: Path, name: str) -> Graph:
    """Read a seeded checkpoint as the graph ``synthesis``, ``mapping`` or ``encoder`` in the published form."""
    if name == "encoder":
        encoder = read_encoder(checkpoint)
        return encoder_graph(name, load_encoder(encoder), torch.zeros(encoder.layer_count, encoder.w_dim))
    read = read_any_generator(checkpoint)
    assert isinstance(read, GeneratorCheckpoint)
    generator = load_generator(read)
    if name == "mapping":
        return mapping_graph(generator)
    assert (generator.config.architecture, generator.config.conv_clamp) == ("skip", None)  # all that is written here
    for module in generator.synthesis.modules():
        if isinstance(module, Block):
            _use_official_form(module)
    return synthesis_graph(generator)


def count_macs(checkpoint: Path, name: str, inputs: Mapping[str, np.ndarray]) -> float:
    """Count the multiply-adds of the convolutions and matrix products that the published form takes for the inputs."""
    graph = official_graph(checkpoint, name)
    with FlopCounterMode(display=False) as counter:
        graph.module(*(torch.from_numpy(inputs[each]) for each in graph.inputs))
    return float(counter.get_total_flops()) / 2


def _use_official_form(block: Block) -> None:
    """Make a block multiply weights, not activations, by the styles; the function stays the same."""
    for name, layer in block.named_children():
        if isinstance(layer, StyledConv):
            _replace(layer, partial(_convolve, layer, upsampled=name == "conv0"))
    _replace(block.upsampling, partial(_double, block.get_buffer("resample_filter")))


def _replace(module: nn.Module, forward: partial[Tensor]) -> None:
    module.forward = forward


def _convolve(self: StyledConv, x: Tensor, w: Tensor, noise: Noise | None, *, upsampled: bool) -> Tensor:
    """Map float32[N or 1, I, H, W] and w float32[N, D] to float32[N, O, H, W], or twice that size."""
    styles = self.affine(w)  # [N, I]
    row_count = len(styles)
    x = x.expand(row_count, -1, -1, -1)
    out_channels, in_channels, side, _ = self.weight.shape
    weight = self.weight[None] * styles[:, None, :, None, None]  # [N, O, I, 3, 3]
    weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, row_count * in_channels, *_sizes(x)[2:])
    if upsampled:
        kernel = weight.transpose(1, 2).reshape(row_count * in_channels, out_channels, side, side)
        x = functional.conv_transpose2d(x, kernel, stride=2, groups=row_count)
        x = _filter(
            x.reshape(row_count, out_channels, *_sizes(x)[2:]), self.get_buffer("resample_filter"), (1, 1, 1, 1)
        )
    else:
        kernel = weight.reshape(row_count * out_channels, in_channels, side, side)
        x = functional.conv2d(x, kernel, padding=1, groups=row_count)
        x = x.reshape(row_count, out_channels, *_sizes(x)[2:])
    if noise is not None:
        x = x + (self.noise_const * noise.strength + noise.values) * self.noise_strength
    return functional.leaky_relu(x + self.bias[:, None, None], SLOPE) * math.sqrt(2)


def _double(taps: Tensor, x: Tensor) -> Tensor:
    """Map float32[N, C, H, W] to float32[N, C, 2H, 2W]: zeros between the pixels, then the filter."""
    row_count, channels, height, width = _sizes(x)
    x = functional.pad(x.reshape(row_count, channels, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
    return _filter(x.reshape(row_count, channels, 2 * height, 2 * width), taps, (2, 1, 2, 1))


def _filter(x: Tensor, taps: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Filter every channel with float32[4, 4], times 4 for the zeros that up-sampling inserts."""
    channels = _sizes(x)[1]
    kernel = (taps * 4).flip((0, 1)).repeat(channels, 1, 1, 1)  # [C, 1, 4, 4]
    return functional.conv2d(functional.pad(x, padding), kernel, groups=channels)


def _sizes(x: Tensor) -> list[int]:
    """Return the shape as plain numbers: a trace would keep it open, and the exporter needs to know it."""
    return [int(size) for size in x.shape]
