"""Generators of anime faces (SRResNet trained with DRAGAN), in the layout of a public PyTorch port.

Source: Jin et al. 2017 (arXiv 1708.05509), section 4.2, and format notes 1, section 12.3.
"""

from collections.abc import Mapping
from math import isqrt

from stylewire_export.checkpoints.config import AnimeConfig, PlainCheckpoint
from stylewire_export.checkpoints.families.plain import build_plain
from stylewire_export.checkpoints.shapes import MAX_RESOLUTION_PX, Shape, Shapes, compare_shapes, norm_shapes
from stylewire_export.checkpoints.tensors import TensorRecord
from stylewire_export.errors import CheckpointError

Z_DIM = 128  # of the paper; in the file z and attributes are one input
_NOTE = (
    "the file does not say what its attributes are, nor whether they were trained as 0 and 1 or as -1 and 1: "
    "name them with --label-names"
)


def is_anime(state: Mapping[str, object]) -> bool:
    """Recognize the port by the names of its tensors."""
    return "dense.weight" in state and "residual_block1.conv1.weight" in state


def read_anime(records: Mapping[str, TensorRecord], *, file_bytes: int) -> PlainCheckpoint:
    """Read a generator of any width, number of blocks and number of attributes.

    Args:
        records: the file's name -> record.
        file_bytes: size of the file, bounds the copies.

    Raises:
        CheckpointError: a tensor is missing, surplus or of another shape.
    """
    return build_plain(records, "srresnet-anime", _infer, file_bytes=file_bytes, notes=(_NOTE,))


def _infer(shapes: Mapping[str, Shape]) -> AnimeConfig:
    known = Shapes(shapes)
    width = known.size("bn1.weight", 0)
    up_count = known.count("upsample{}.conv.weight", first=1)
    config = AnimeConfig(
        input_dim=known.size("dense.weight", 1),
        width=width,
        start_px=isqrt(known.size("dense.weight", 0) // width),
        residual_count=known.count("residual_block{}.conv1.weight", first=1),
        up_widths=tuple(known.size(f"upsample{number}.bn.weight", 0) for number in range(1, up_count + 1)),
        image_kernel_px=known.size("conv3.weight", 2),
        image_channels=known.size("conv3.weight", 0),
    )
    if config.start_px < 1 or up_count > MAX_RESOLUTION_PX or config.resolution_px > MAX_RESOLUTION_PX:
        raise CheckpointError(f"{config.start_px} px doubled {up_count} times is not supported")
    if config.image_kernel_px % 2 == 0:
        raise CheckpointError("the last convolution has a kernel of even size, which is not supported")
    compare_shapes(shapes, _expected(config))
    return config


def _expected(config: AnimeConfig) -> dict[str, Shape]:
    width, dense = config.width, config.width * config.start_px**2
    shapes: dict[str, Shape] = {"dense.weight": (dense, config.input_dim), "dense.bias": (dense,)}
    shapes |= norm_shapes("bn1", width) | norm_shapes("bn2", width)
    for number in range(1, config.residual_count + 1):
        for part in (1, 2):
            shapes |= _conv(f"residual_block{number}.conv{part}", width, width, 3)
            shapes |= norm_shapes(f"residual_block{number}.bn{part}", width)
    for number, up_width in enumerate(config.up_widths, start=1):
        shapes |= _conv(f"upsample{number}.conv", width, 4 * up_width, 3) | norm_shapes(
            f"upsample{number}.bn", up_width
        )
        width = up_width
    return shapes | _conv("conv3", width, config.image_channels, config.image_kernel_px)


def _conv(name: str, in_width: int, out_width: int, side: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out_width, in_width, side, side), f"{name}.bias": (out_width,)}
