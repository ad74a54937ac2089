"""The form of the published code, for comparison: weights of every sample's own, in one grouped convolution, eager.

Source: Karras et al. 2020 (StyleGAN2), section 2.2, equations 1 to 3, and appendix B on the grouped convolution.
"""

import types

import torch
from torch import Tensor
from torch.nn import functional

from stylewire_export.generator import Noise, StyledConv, Synthesis
from stylewire_export.ops import SLOPE


def use_official_form(synthesis: Synthesis) -> Synthesis:
    """Make the network multiply weights, not activations, by the styles; the function stays the same."""
    for module in synthesis.modules():
        if isinstance(module, StyledConv):
            module.forward = types.MethodType(_forward, module)  # type: ignore[method-assign]
    return synthesis


def _forward(self: StyledConv, x: Tensor, w: Tensor, noise: Noise | None) -> Tensor:
    styles = self.affine(w)  # [N, I]
    row_count = len(styles)
    x = x.expand(row_count, -1, -1, -1)
    out_channels, in_channels, side, _ = self.weight.shape
    weight = self.weight[None] * styles[:, None, :, None, None]  # [N, O, I, 3, 3]
    weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, row_count * in_channels, *x.shape[2:])
    if self.smoothing is not None:
        kernel = weight.transpose(1, 2).reshape(row_count * in_channels, out_channels, side, side)
        x = functional.conv_transpose2d(x, kernel, stride=2, groups=row_count)
        x = self.smoothing(x.reshape(row_count, out_channels, *x.shape[2:]))
    else:
        kernel = weight.reshape(row_count * out_channels, in_channels, side, side)
        x = functional.conv2d(x, kernel, padding=1, groups=row_count)
        x = x.reshape(row_count, out_channels, *x.shape[2:])
    if noise is not None:
        x = x + (self.noise_const * noise.strength + noise.values) * self.noise_strength
    x = functional.leaky_relu(x + self.bias[:, None, None], SLOPE) * self.gain
    return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class Official:
    """A synthesis network in the published form, with the face of a backend."""

    name, precision = "PyTorch, official form", "fp32"
    slots, wide = 1, False

    def __init__(self, synthesis: Synthesis, threads: int) -> None:
        self._synthesis, self._threads = use_official_form(synthesis).eval(), threads

    def run(self, inputs: dict[str, object], outputs: object, *, wide: bool = False) -> dict[str, object]:  # noqa: ARG002
        """Give ``pixels``, computed as the published scripts do."""
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            given = [torch.from_numpy(inputs[name]) for name in ("w_plus", "noise_strength", "noise")]
            image = self._synthesis(*given)
            pixels = (image.permute(0, 2, 3, 1) * 127.5 + 128).clamp(0, 255).to(torch.uint8)
        return {"pixels": pixels.numpy()}

    def close(self) -> None:
        """Free nothing."""
