"""Networks in half precision, for GPUs: the same functions, with float16 weights and activations.

What decides about the image stays in float32: styles, demodulation, the noise before it is added, and the image itself,
which every block adds to. float16 ends at 65504, so weights and styles are divided by their largest magnitudes before a
convolution, and the product of both is multiplied back afterwards with the demodulation: exact but for rounding.

Source: Karras et al. 2020 (ADA, arXiv 2006.06676), appendix on mixed precision: weights and styles are normalized.
Shape legend: N batch, D w_dim, I O channels, C image channels, r resolution.
"""

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from stylewire_export.graphs import EncoderWithMean, SynthesisWithPixels
from stylewire_export.networks.generator import Noise, Skip, StyledConv, Synthesis, ToImage
from stylewire_export.networks.ops import SLOPE


def half_form(module: nn.Module) -> nn.Module | None:
    """Make the half-precision form of an exported network; inputs and outputs stay as they are.

    Args:
        module: of a graph; it is left as it is.

    Returns:
        The network with float16 weights in the memory format ``channels_last``, or None for a mapping network, which
        has nothing to gain.
    """
    made: nn.Module
    if isinstance(module, EncoderWithMean):
        made = EncoderWithMean(_HalfNetwork(module.encoder), module.mean_code)
    elif isinstance(module, SynthesisWithPixels):
        network = module.synthesis
        half = _half_synthesis(network) if isinstance(network, Synthesis) else _HalfNetwork(network)
        made = SynthesisWithPixels(half, module.rule)
    else:
        return None
    made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
    return made


class _HalfNetwork(nn.Module):
    """A network without styles, or one that normalizes its activations itself, as a whole in half precision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map the network's float32 inputs to its output, in float32."""
        y: Tensor = self.network(*(x.half() for x in inputs))
        return y.float()


def _half_synthesis(synthesis: Synthesis) -> Synthesis:
    made = copy.deepcopy(synthesis)
    for block in list(_blocks(made)):
        for name, layer in list(block.named_children()):
            if isinstance(layer, StyledConv):
                setattr(block, name, _HalfStyledConv(layer))
            elif isinstance(layer, ToImage):
                setattr(block, name, _HalfToImage(layer))
            elif isinstance(layer, Skip):
                layer.half()
        if hasattr(block, "const"):
            block.const.data = block.const.data.half()
    return made


def _blocks(synthesis: Synthesis) -> Iterator[nn.Module]:
    for resolution_px in synthesis.resolutions_px:
        yield synthesis.get_submodule(f"b{resolution_px}")


class _HalfStyledConv(nn.Module):
    """``StyledConv`` in half precision."""

    weight: Tensor
    sizes: Tensor
    energy: Tensor
    bias: Tensor
    noise: Tensor

    def __init__(self, conv: StyledConv) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self.affine, self.gain, self.clamp = conv.affine, conv.gain, conv.clamp
        # The largest possible sum of the products of one output is then that of sqrt(9 I) activations.
        sizes = weight.abs().amax((1, 2, 3)).clamp_min(1e-12) * math.sqrt(weight[0].numel())  # [O]
        normalized = weight / sizes[:, None, None, None]
        self.upsampled = conv.smoothing is not None
        self.register_buffer("weight", (normalized.transpose(0, 1) if self.upsampled else normalized).half())
        self.register_buffer("sizes", sizes)
        self.register_buffer("energy", weight.square().sum((2, 3)).t().contiguous())  # [I, O]
        self.register_buffer("bias", (conv.bias.detach() * conv.gain).half()[:, None, None])
        if hasattr(conv, "noise_const"):
            self.register_buffer("noise", conv.noise_const)
            self.noise_strength = float(conv.noise_strength) * conv.gain
        self.smoothing = None if conv.smoothing is None else conv.smoothing.half()

    def forward(self, x: Tensor, w: Tensor, noise: Noise | None) -> Tensor:
        """Map float16[N or 1, I, H, W] and w float32[N, D] to float16[N, O, r, r]."""
        styles = self.affine(w)  # [N, I]
        largest = _largest(styles)
        x = x * (styles / largest).half()[:, :, None, None]
        if self.smoothing is not None:
            x = self.smoothing(functional.conv_transpose2d(x, self.weight, stride=2))
        else:
            x = functional.conv2d(x, self.weight, padding=1)
        demodulation = (styles.square() @ self.energy + 1e-8).rsqrt()
        x = x * (demodulation * largest * self.sizes * self.gain).half()[:, :, None, None]
        if noise is not None:
            x = x + ((self.noise * noise.strength + noise.values) * self.noise_strength).half()
        x = functional.leaky_relu(x + self.bias, SLOPE)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class _HalfToImage(nn.Module):
    """``ToImage`` with its convolution in half precision; the image is float32, since every block adds to it."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: ToImage) -> None:
        super().__init__()
        weight = layer.weight.detach() * layer.weight_gain
        self.affine, self.clamp = layer.affine, layer.clamp
        self.size = max(float(weight.abs().max()) * math.sqrt(weight[0].numel()), 1e-12)
        self.register_buffer("weight", (weight / self.size).half())
        self.register_buffer("bias", layer.bias.detach()[:, None, None])

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map float16[N, I, r, r] and w float32[N, D] to float32[N, C, r, r]."""
        styles = self.affine(w)
        largest = _largest(styles)
        x = functional.conv2d(x * (styles / largest).half()[:, :, None, None], self.weight).float()
        x = x * (largest * self.size)[:, :, None, None] + self.bias
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


def _largest(styles: Tensor) -> Tensor:
    """Return the largest magnitude of each row of float32[N, I], as float32[N, 1]."""
    return styles.abs().amax(1, keepdim=True).clamp_min(1e-12)
