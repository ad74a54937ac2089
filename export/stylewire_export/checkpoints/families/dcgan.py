"""DCGAN generators in the layout of PyTorch's example: a bare state dict with the keys ``main.*``.

Every layer takes three places of the list: convolution, batch norm, activation. Source: format notes 1, section 12.2.
Shape legend: I O input and output channels.
"""

from collections.abc import Mapping
from itertools import pairwise

from stylewire_export.checkpoints.config import DcganConfig, PlainCheckpoint
from stylewire_export.checkpoints.families.plain import build_plain
from stylewire_export.checkpoints.shapes import MAX_RESOLUTION_PX, Shape, Shapes, compare_shapes, norm_shapes
from stylewire_export.checkpoints.tensors import TensorRecord
from stylewire_export.errors import CheckpointError

FIRST_CONV, FIRST_MEAN = "main.0.weight", "main.1.running_mean"
_MAX_LAYERS = 11  # MAX_RESOLUTION_PX


def is_dcgan(state: Mapping[str, object]) -> bool:
    """Recognize the generator by its names: the discriminator has no batch norm after its first convolution."""
    return FIRST_CONV in state and FIRST_MEAN in state


def read_dcgan(records: Mapping[str, TensorRecord], *, file_bytes: int) -> PlainCheckpoint:
    """Read a generator of any input size, width and depth.

    Args:
        records: the file's name -> record.
        file_bytes: size of the file, bounds the copies.

    Raises:
        CheckpointError: a tensor is missing, surplus or of another shape.
    """
    return build_plain(records, "dcgan", _infer, file_bytes=file_bytes)


def _infer(shapes: Mapping[str, Shape]) -> DcganConfig:
    known = Shapes(shapes)
    layer_count = known.count("main.{}.weight", step=3)
    if not 2 <= layer_count <= _MAX_LAYERS:
        raise CheckpointError(f"a DCGAN generator of {layer_count} layers (supported are up to {MAX_RESOLUTION_PX} px)")
    names = [f"main.{3 * index}" for index in range(layer_count)]
    config = DcganConfig(
        input_dim=known.size(FIRST_CONV, 0),
        widths=tuple(known.size(f"{name}.weight", 1) for name in names),
        biased=tuple(f"{name}.bias" in known for name in names),
    )
    compare_shapes(shapes, _expected(config))
    return config


def _expected(config: DcganConfig) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for index, (in_width, out_width) in enumerate(pairwise((config.input_dim, *config.widths))):
        shapes[f"main.{3 * index}.weight"] = (in_width, out_width, 4, 4)
        if config.biased[index]:
            shapes[f"main.{3 * index}.bias"] = (out_width,)
        if index < len(config.widths) - 1:
            shapes |= norm_shapes(f"main.{3 * index + 1}", out_width)
    return shapes
