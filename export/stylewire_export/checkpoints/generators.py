"""The last step that all families of generators share: named tensor records -> GeneratorCheckpoint."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np
import torch

from stylewire_export.checkpoints.config import GeneratorCheckpoint, PixelRule
from stylewire_export.checkpoints.generator_layout import FILTER, W_AVG, infer_config
from stylewire_export.checkpoints.tensors import TensorRecord, to_tensors
from stylewire_export.errors import CheckpointError

_USUAL_TAPS = (0.125, 0.375, 0.375, 0.125)  # 1, 3, 3, 1 over their sum: the default of every public implementation
_TAP_COUNTS = range(2, 33)
_FILTER_TOLERANCE = 1e-6  # float32 rounding of an outer product


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorTraits:
    """What a family knows about a generator beside its tensors.

    Attributes:
        filter_gain: factor in the stored filters, 1 where their sum is 1.

    The others are those of ``GeneratorConfig`` and ``GeneratorCheckpoint``.
    """

    family: str
    filter_gain: float = 1.0
    mapping_lr_multiplier: float = 0.01
    conv_clamp: float | None = None
    fp16_resolution_count: int = 0
    label_concat: bool = False
    pixel_rule: PixelRule = "round"
    notes: tuple[str, ...] = ()


def build_generator(
    records: Mapping[str, TensorRecord], traits: GeneratorTraits, *, file_bytes: int
) -> GeneratorCheckpoint:
    """Check the tensors against one another, copy them, and describe the network.

    Args:
        records: NVIDIA name -> record; the filters may all be missing (then it is the usual one).
        traits: of the family.
        file_bytes: size of the file, bounds the copies.

    Raises:
        CheckpointError: a tensor is missing, surplus or of another shape, or holds no finite floats.
    """
    filters = {name: record for name, record in records.items() if name.endswith("." + FILTER)}
    weights = {name: record for name, record in records.items() if name not in filters}
    # conv1 has a filter too, but does not resample: the originals keep the usual one there, whatever the network uses.
    used = [record for name, record in filters.items() if ".conv1." not in name]
    taps = _common_taps(used, traits.filter_gain)
    shapes = {name: record.shape for name, record in weights.items()}
    shapes |= dict.fromkeys([*filters, *_filter_names(weights)], (len(taps), len(taps)))
    config = dataclasses.replace(
        infer_config(shapes, taps, label_concat=traits.label_concat),
        mapping_lr_multiplier=traits.mapping_lr_multiplier,
        conv_clamp=traits.conv_clamp,
        fp16_resolution_count=traits.fp16_resolution_count,
        pixel_rule=traits.pixel_rule,
    )
    state, notes = to_tensors(weights, file_bytes=file_bytes)
    square = torch.outer(torch.tensor(taps), torch.tensor(taps))
    state |= {name: square.clone() for name in _filter_names(weights)}
    return GeneratorCheckpoint(
        family=traits.family,
        config=config,
        state=state,
        has_w_avg=W_AVG in state,
        notes=(*traits.notes, *notes),
    )


def _filter_names(weights: Mapping[str, TensorRecord]) -> list[str]:
    """List the names under which published files store the filter: for every block, 3x3 convolution and skip."""
    layers = (re.fullmatch(r"(synthesis\.b\d+)\.(conv\d|skip)\.weight", name) for name in weights)
    owners = [(match[1], f"{match[1]}.{match[2]}") for match in layers if match]
    return [f"{owner}.{FILTER}" for owner in dict.fromkeys(name for pair in owners for name in pair)]


def _common_taps(filters: list[TensorRecord], gain: float) -> tuple[float, ...]:
    """Split the square filters [T, T], which must all be equal, into the taps [T] of one axis, sum 1."""
    if not filters:
        return _USUAL_TAPS
    for record in filters:
        if len(record.shape) != 2 or record.shape[0] != record.shape[1] or record.shape[0] not in _TAP_COUNTS:
            raise CheckpointError(f"an up-sampling filter of shape {list(record.shape)} is not supported")
    first, *others = [record.to_array() for record in filters]
    if any(not np.array_equal(other, first) for other in others):
        raise CheckpointError("the layers have different up-sampling filters, which is not supported")
    square = first.astype(np.float64) / gain
    taps = square.sum(1)  # of an outer product with sum 1
    if not np.isfinite(square).all() or np.abs(np.outer(taps, taps) - square).max() > _FILTER_TOLERANCE:
        raise CheckpointError("the up-sampling filter is not separable with sum 1, which is not supported")
    return tuple(taps.tolist())
