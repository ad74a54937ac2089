"""Which tensors a pSp or e4e encoder has, for any widths and numbers of units.

An IR-SE backbone of four stages, and one of three heads: a feature pyramid with a small network for every style, one w
from the pooled last map, or all of w+ from it. Source: format notes 2, sections 2.3 and 2.4; the sizes are those of
Richardson et al. 2021 (pSp, arXiv 2008.00951), section 3.1.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from stylewire_export.checkpoints.shapes import COUNTER, Shape, Shapes, compare_shapes, linear_shapes, norm_shapes
from stylewire_export.errors import CheckpointError

Head = Literal["pyramid", "w", "w_plus"]

NOMINAL_SIDE_PX = 16  # of the last map at an input of 256 px
MAX_DEPTH = 6  # inputs of 1024 px
STAGE_COUNT = 4  # each halves the side
COARSE_STYLES, MIDDLE_STYLES = 3, 7  # rows 0 to 2 read the last map, 3 to 6 that of twice its side, others the largest


class EncoderLayout(NamedTuple):
    """Dimensions of an encoder.

    Attributes:
        head: what follows the backbone.
        input_channels: of the image.
        w_dim: D.
        style_count: heads of the pyramid, rows of w_plus; 1 for w.
        nominal_input_px: side of the square input that the heads of the pyramid were made for; 256 for the others.
    """

    head: Head
    input_channels: int
    w_dim: int
    style_count: int
    nominal_input_px: int


def infer_encoder(shapes: Mapping[str, Shape]) -> EncoderLayout:
    """Read the dimensions of an encoder from its shapes, and compare all shapes with them.

    Raises:
        CheckpointError: a tensor is missing, surplus or of another shape.
    """
    known = Shapes(shapes)
    stages, expected = _backbone(known)
    width = stages[-1]
    if "styles.0.convs.0.weight" in known:
        layout, head = _pyramid(known, stages)
    elif "output_layer_2.3.weight" in known:
        style_count, rest = divmod(known.size("linear.weight", 0), width)
        if rest:
            raise CheckpointError("tensor 'linear.weight' has a shape that is no multiple of the style width")
        layout = EncoderLayout("w_plus", known.size("input_layer.0.weight", 1), width, style_count, 256)
        head = _norm("output_layer_2.0", width) | linear_shapes("output_layer_2.3", width * 49, width)
        head |= linear_shapes("linear", width, width * style_count)
    else:
        layout = EncoderLayout("w", known.size("input_layer.0.weight", 1), width, 1, 256)
        head = linear_shapes("linear", width, width)
    compare_shapes(shapes, expected | head, optional=tuple(name for name in expected | head if COUNTER in name))
    return layout


def _backbone(known: Shapes) -> tuple[list[int], dict[str, Shape]]:
    """Return the widths of the four stages, and the shapes of all tensors."""
    width = known.size("input_layer.0.weight", 0)
    expected: dict[str, Shape] = {
        "input_layer.0.weight": (width, known.size("input_layer.0.weight", 1), 3, 3),
        **_norm("input_layer.1", width),
        "input_layer.2.weight": (width,),
    }
    stages = [width]
    for index in range(known.count("body.{}.res_layer.1.weight")):
        unit = f"body.{index}"
        out = known.size(f"{unit}.res_layer.1.weight", 0)
        expected |= _unit(unit, width, out, squeezed=known.size(f"{unit}.res_layer.5.fc1.weight", 0))
        if out != width:
            stages.append(out)
        width = out
    if len(stages) != STAGE_COUNT:
        raise CheckpointError(f"the encoder's backbone has {len(stages)} widths {stages[:8]}; IR-SE has {STAGE_COUNT}")
    return stages, expected


def _unit(name: str, width: int, out: int, *, squeezed: int) -> dict[str, Shape]:
    layer = f"{name}.res_layer"
    shapes: dict[str, Shape] = {
        **_norm(f"{layer}.0", width),
        f"{layer}.1.weight": (out, width, 3, 3),
        f"{layer}.2.weight": (out,),
        f"{layer}.3.weight": (out, out, 3, 3),
        **_norm(f"{layer}.4", out),
        f"{layer}.5.fc1.weight": (squeezed, out, 1, 1),
        f"{layer}.5.fc2.weight": (out, squeezed, 1, 1),
    }
    if width != out:
        shapes |= {f"{name}.shortcut_layer.0.weight": (out, width, 1, 1), **_norm(f"{name}.shortcut_layer.1", out)}
    return shapes


def _pyramid(known: Shapes, stages: list[int]) -> tuple[EncoderLayout, dict[str, Shape]]:
    width, style_count = stages[-1], known.count("styles.{}.linear.weight")
    depth = _conv_count(known, 0)
    shapes: dict[str, Shape] = {}
    for style in range(style_count):
        convs = depth + (style >= COARSE_STYLES) + (style >= MIDDLE_STYLES)  # a map of twice the side: one more
        for index in range(0, 2 * convs, 2):
            shapes[f"styles.{style}.convs.{index}.weight"] = (width, width, 3, 3)
            shapes[f"styles.{style}.convs.{index}.bias"] = (width,)
        shapes |= linear_shapes(f"styles.{style}.linear", width, width)
    for name, in_width in (("latlayer1", stages[2]), ("latlayer2", stages[1])):
        shapes |= {f"{name}.weight": (width, in_width, 1, 1), f"{name}.bias": (width,)}
    if depth > MAX_DEPTH:
        raise CheckpointError(f"the encoder's heads have {depth} convolutions (limit {MAX_DEPTH})")
    side = NOMINAL_SIDE_PX * 2**depth
    return EncoderLayout("pyramid", known.size("input_layer.0.weight", 1), width, style_count, side), shapes


def _conv_count(known: Shapes, style: int) -> int:
    count = 0
    while f"styles.{style}.convs.{2 * count}.weight" in known:
        count += 1
    return count


def _norm(name: str, width: int) -> dict[str, Shape]:
    """List the tensors of a batch norm, its counter included."""
    return norm_shapes(name, width) | {f"{name}.{COUNTER}": ()}
