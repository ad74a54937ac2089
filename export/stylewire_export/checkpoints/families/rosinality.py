"""Generators of rosinality's PyTorch port, alone or as the decoder inside pSp and e4e files.

The network is StyleGAN2 under other names; nothing is flipped or scaled. Source: format notes 1, section 4.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np

from stylewire_export.checkpoints.config import GeneratorCheckpoint
from stylewire_export.checkpoints.generator_layout import FILTER, W_AVG
from stylewire_export.checkpoints.generators import GeneratorTraits, build_generator
from stylewire_export.checkpoints.shapes import MAX_RESOLUTION_PX
from stylewire_export.checkpoints.tensors import TensorRecord, wrap_array
from stylewire_export.errors import CheckpointError, quote

KERNEL_GAIN = 4.0  # the port stores the up-sampling filter already multiplied by factor ** 2
_NOISE_SEED = 0
_CONV = {  # name below a styled convolution -> NVIDIA's name, axes of size 1 to drop
    "conv.weight": ("weight", (0,)),
    "conv.modulation.weight": ("affine.weight", ()),
    "conv.modulation.bias": ("affine.bias", ()),
    "noise.weight": ("noise_strength", (0,)),
    "activate.bias": ("bias", ()),
    "conv.blur.kernel": (FILTER, ()),
}
_IMAGE = {
    "conv.weight": ("torgb.weight", (0,)),
    "conv.modulation.weight": ("torgb.affine.weight", ()),
    "conv.modulation.bias": ("torgb.affine.bias", ()),
    "bias": ("torgb.bias", (0, 2, 3)),
    "upsample.kernel": (FILTER, ()),
}
_Target = tuple[str, tuple[int, ...]]


def is_rosinality(state: Mapping[str, object]) -> bool:
    """Recognize the port by the names of its tensors."""
    return "input.input" in state and "style.1.weight" in state


def read_rosinality(
    state: Mapping[str, TensorRecord],
    mean_w: TensorRecord | None,
    traits: GeneratorTraits,
    *,
    file_bytes: int,
) -> GeneratorCheckpoint:
    """Read a generator from its state dict.

    Args:
        state: the port's name -> record.
        mean_w: [D] or [1, D], the center of truncation if the file has it.
        traits: family, notes and pixel rule.
        file_bytes: size of the file, bounds the copies.

    Raises:
        CheckpointError: a tensor is missing, surplus or of another shape.
    """
    records: dict[str, TensorRecord] = {}
    for name, record in state.items():
        target, axes = _target(name)
        records[target] = record.labeled(name).squeezed(*axes)
    notes = traits.notes
    if not any(name.endswith(".noise_const") for name in records):
        records |= _seeded_noise(records)
        notes += ("the file stores no noise maps (an old one): seeded maps take their place",)
    if mean_w is not None:
        records[W_AVG] = mean_w.squeezed(0) if len(mean_w.shape) == 2 else mean_w
    traits = dataclasses.replace(traits, filter_gain=KERNEL_GAIN, notes=notes)
    return build_generator(records, traits, file_bytes=file_bytes)


def _target(name: str) -> _Target:
    for pattern, translate in _PATTERNS.items():
        if match := re.fullmatch(pattern, name):
            if (target := translate(*match.groups())) is not None:
                return target
            break
    raise CheckpointError(f"tensor {quote(name)} does not belong to a rosinality generator")


def _mapping(index: str, kind: str) -> _Target | None:
    return (f"mapping.fc{int(index) - 1}.{kind}", ()) if int(index) else None  # style.0 only normalizes


def _layer(number: int) -> str:
    """Name the styled convolution: 0 is the one of 4 px, then there are two for every resolution."""
    return f"synthesis.b{4 << (number + 1) // 2}.conv{(number + 1) % 2}"


def _conv(index: str, part: str) -> _Target | None:
    if part not in _CONV:
        return None
    name, axes = _CONV[part]
    return f"{_layer(int(index) + 1 if index else 0)}.{name}", axes


def _image(index: str, part: str) -> _Target | None:
    if part not in _IMAGE:
        return None
    name, axes = _IMAGE[part]
    return f"synthesis.b{8 << int(index) if index else 4}.{name}", axes


def _noise(index: str) -> _Target | None:
    return f"{_layer(int(index))}.noise_const", (0, 1)


_PATTERNS: Mapping[str, Callable[..., _Target | None]] = {
    r"style\.(\d{1,2})\.(weight|bias)": _mapping,
    r"input\.input": lambda: ("synthesis.b4.const", (0,)),
    r"conv1()\.(.+)": _conv,
    r"convs\.(\d{1,2})\.(.+)": _conv,
    r"to_rgb1()\.(.+)": _image,
    r"to_rgbs\.(\d{1,2})\.(.+)": _image,
    r"noises\.noise_(\d{1,2})": _noise,
}


def _seeded_noise(records: Mapping[str, TensorRecord]) -> dict[str, TensorRecord]:
    """Draw a map for every layer with a noise strength; the port would draw new ones at every start."""
    random = np.random.RandomState(_NOISE_SEED)
    layers = (re.fullmatch(r"(synthesis\.b(\d{1,4})\.conv\d)\.noise_strength", name) for name in records)
    return {
        f"{match[1]}.noise_const": wrap_array(random.randn(int(match[2]), int(match[2])).astype(np.float32))
        for match in layers
        if match and int(match[2]) <= MAX_RESOLUTION_PX
    }
