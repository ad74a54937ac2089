"""StyleGAN1 generators of rosinality's PyTorch port.

The run-time gains of the port become part of the weights, and both of its ways to double the size become one transposed
4x4 convolution, so that the network itself has neither. Source: format notes 1, section 12.1.
Shape legend: I O input and output channels, D w_dim, r block resolution.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stylewire_export.checkpoints.config import StyleGan1Checkpoint, StyleGan1Config
from stylewire_export.checkpoints.shapes import MAX_RESOLUTION_PX, Shape, Shapes, compare_shapes
from stylewire_export.checkpoints.tensors import TensorRecord, to_float32, to_tensors
from stylewire_export.errors import CheckpointError, quote

BLUR = (0.25, 0.5, 0.25)  # Karras et al. 2019, section 3: bilinear filtering
_BLUR_TOLERANCE = 1e-6
_NOISE_SEED = 0
_NOISE_NOTE = "the family stores no noise maps and draws new ones for every image: seeded maps take their place"
_MAX_BLOCKS = 11  # MAX_RESOLUTION_PX


class _Layout(NamedTuple):
    """Dimensions of all blocks in the file, also of those that were never trained."""

    z_dim: int
    mapping_widths: tuple[int, ...]
    widths: tuple[int, ...]
    fused: tuple[bool, ...]
    image_channels: int

    def blur(self, index: int) -> str:
        """Name the module of a block that smoothes."""
        return f"{_block(index)}.conv1.{1 if self.fused[index] else 2}"


def is_stylegan1(state: Mapping[str, object]) -> bool:
    """Recognize the port by the names of its tensors."""
    return "generator.progression.0.conv1.input" in state and "style.1.linear.weight_orig" in state


def read_stylegan1(
    records: Mapping[str, TensorRecord], *, resolution_px: int | None, file_bytes: int
) -> StyleGan1Checkpoint:
    """Read a generator of any width.

    Args:
        records: the file's name -> record.
        resolution_px: where to take the image; None takes the highest resolution that was trained, for the port
            stores blocks up to 1024 px from the first step on.
        file_bytes: size of the file, bounds the copies.

    Raises:
        CheckpointError: a tensor is missing, surplus or of another shape, or the resolution is not in the file.
    """
    shapes = {name: record.shape for name, record in records.items()}
    layout = _infer(shapes)
    compare_shapes(shapes, _expected(layout))
    notes = [_NOISE_NOTE]
    count = _trained_count(records, layout)
    if resolution_px is not None:
        count = _count_of(resolution_px, len(layout.widths))
    elif count < len(layout.widths):
        notes.append(f"the blocks above {_resolution(count - 1)} px were never trained and are left out")
    names = {_rgb(count - 1), *(_block(index) for index in range(count))}
    used = {name: record for name, record in records.items() if name.startswith((*(f"{n}." for n in names), "style."))}
    stored, more_notes = to_tensors(used, file_bytes=file_bytes)
    _check_blurs(stored, layout, count)
    return StyleGan1Checkpoint(
        family="rosinality StyleGAN1",
        config=StyleGan1Config(
            z_dim=layout.z_dim,
            mapping_widths=layout.mapping_widths,
            channels=tuple((_resolution(index), width) for index, width in enumerate(layout.widths[:count])),
            image_channels=layout.image_channels,
        ),
        state=_translate(stored, layout, count),
        notes=(*notes, *more_notes),
    )


def _resolution(index: int) -> int:
    return 4 << index


def _block(index: int) -> str:
    return f"generator.progression.{index}"


def _rgb(index: int) -> str:
    return f"generator.to_rgb.{index}"


def _infer(shapes: Mapping[str, Shape]) -> _Layout:
    known = Shapes(shapes)
    count = known.count("generator.progression.{}.conv2.conv.weight_orig")
    if not 2 <= count <= _MAX_BLOCKS:
        raise CheckpointError(f"a StyleGAN1 generator of {count} blocks (supported: 8 to {MAX_RESOLUTION_PX} px)")
    layers = range(1, 2 * known.count("style.{}.linear.weight_orig", first=1, step=2), 2)
    return _Layout(
        z_dim=known.size("style.1.linear.weight_orig", 1),
        mapping_widths=tuple(known.size(f"style.{number}.linear.weight_orig", 0) for number in layers),
        widths=tuple(known.size(f"{_block(index)}.conv2.conv.weight_orig", 0) for index in range(count)),
        fused=tuple(f"{_block(index)}.conv1.0.weight" in known for index in range(count)),
        image_channels=known.size(f"{_rgb(0)}.conv.weight_orig", 0),
    )


def _expected(layout: _Layout) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for index, (in_size, out_size) in enumerate(pairwise((layout.z_dim, *layout.mapping_widths))):
        shapes |= _pair(f"style.{2 * index + 1}.linear", (out_size, in_size))
    for index, width in enumerate(layout.widths):
        name, rgb = _block(index), _rgb(index)
        shapes |= _first_layer(layout, index) | _pair(f"{name}.conv2.conv", (width, width, 3, 3))
        for number in (1, 2):
            shapes[f"{name}.noise{number}.weight_orig"] = (1, width, 1, 1)
            shapes |= _pair(f"{name}.adain{number}.style.linear", (2 * width, layout.mapping_widths[-1]))
        shapes |= _pair(f"{rgb}.conv", (layout.image_channels, width, 1, 1))
    return shapes


def _first_layer(layout: _Layout, index: int) -> dict[str, Shape]:
    name, width = _block(index), layout.widths[index]
    if index == 0:
        return {f"{name}.conv1.input": (1, width, 4, 4)}
    in_width = layout.widths[index - 1]
    shapes: dict[str, Shape] = {f"{layout.blur(index)}.{part}": (width, 1, 3, 3) for part in ("weight", "weight_flip")}
    if layout.fused[index]:
        return shapes | {f"{name}.conv1.0.weight": (in_width, width, 3, 3), f"{name}.conv1.0.bias": (width,)}
    return shapes | _pair(f"{name}.conv1.1.conv", (width, in_width, 3, 3))


def _pair(name: str, shape: Shape) -> dict[str, Shape]:
    return {f"{name}.weight_orig": shape, f"{name}.bias": shape[:1]}


def _trained_count(records: Mapping[str, TensorRecord], layout: _Layout) -> int:
    """Count the blocks up to the last trained one: an untouched block still has the zeros that it began with."""
    for index in reversed(range(1, len(layout.widths))):
        names = [f"{_block(index)}.{part}" for part in ("noise1.weight_orig", "noise2.weight_orig", "conv2.conv.bias")]
        if any(to_float32(records[name], name).any() for name in names):
            return index + 1
    return len(layout.widths)  # nothing at all was trained: a test file


def _count_of(resolution_px: int, available: int) -> int:
    resolutions = [_resolution(index) for index in range(1, available)]
    if resolution_px not in resolutions:
        raise CheckpointError(f"it holds no image of {resolution_px} px, only of {', '.join(map(str, resolutions))} px")
    return resolutions.index(resolution_px) + 2


def _check_blurs(stored: Mapping[str, Tensor], layout: _Layout, count: int) -> None:
    kernel = torch.outer(torch.tensor(BLUR), torch.tensor(BLUR))
    for index in range(1, count):
        name = f"{layout.blur(index)}.weight"
        if (stored[name] - kernel).abs().max() > _BLUR_TOLERANCE:
            raise CheckpointError(f"tensor {quote(name)} is another filter than 1, 2, 1, which is not supported")


def _translate(stored: Mapping[str, Tensor], layout: _Layout, count: int) -> dict[str, Tensor]:
    """Rename the tensors and multiply them by their gains."""
    state: dict[str, Tensor] = {}
    for index in range(len(layout.mapping_widths)):
        state |= _layer(f"mapping.fc{index}", stored, f"style.{2 * index + 1}.linear")
    random = np.random.RandomState(_NOISE_SEED)
    for index in range(count):
        side, old = _resolution(index), _block(index)
        new = f"synthesis.b{side}"
        state[f"{new}.noise_const"] = torch.from_numpy(random.randn(side, side).astype(np.float32))
        state |= _up_layer(f"{new}.up", stored, old, fused=layout.fused[index]) if index else {}
        state |= _layer(f"{new}.conv", stored, f"{old}.conv2.conv")
        for number in (1, 2):
            noise = _equalized(stored[f"{old}.noise{number}.weight_orig"])
            state[f"{new}.style{number}.noise_weight"] = noise.reshape(-1)
            state |= _layer(f"{new}.style{number}.affine", stored, f"{old}.adain{number}.style.linear")
    state["synthesis.b4.const"] = stored[f"{_block(0)}.conv1.input"][0]
    return state | _layer("synthesis.torgb", stored, f"{_rgb(count - 1)}.conv")


def _layer(new: str, stored: Mapping[str, Tensor], old: str) -> dict[str, Tensor]:
    return {f"{new}.weight": _equalized(stored[f"{old}.weight_orig"]), f"{new}.bias": stored[f"{old}.bias"]}


def _equalized(weight: Tensor) -> Tensor:
    """Apply the gain of the port, which is the same for all kinds of layers: sqrt(2 / fan-in)."""
    return weight * math.sqrt(2 / math.prod(weight.shape[1:]))


def _up_layer(new: str, stored: Mapping[str, Tensor], old: str, *, fused: bool) -> dict[str, Tensor]:
    """Make the kernel of a transposed convolution, float32[I, O, 4, 4], from either of the port's forms."""
    if fused:
        weight = stored[f"{old}.conv1.0.weight"]  # [I, O, 3, 3]
        gain = math.sqrt(2 / (9 * weight.shape[0]))
        return {f"{new}.weight": _spread(weight * gain) / 4, f"{new}.bias": stored[f"{old}.conv1.0.bias"]}
    weight = _equalized(stored[f"{old}.conv1.1.conv.weight_orig"])
    # Repeating every pixel and convolving is the same as a transposed convolution with the mirrored kernel.
    spread = _spread(weight.flip(2, 3).transpose(0, 1))
    return {f"{new}.weight": spread.contiguous(), f"{new}.bias": stored[f"{old}.conv1.1.conv.bias"]}


def _spread(kernel: Tensor) -> Tensor:
    """Add the four copies of float32[I, O, 3, 3] that are shifted by one pixel: float32[I, O, 4, 4]."""
    padded = functional.pad(kernel, (1, 1, 1, 1))
    return padded[:, :, 1:, 1:] + padded[:, :, :-1, 1:] + padded[:, :, 1:, :-1] + padded[:, :, :-1, :-1]
