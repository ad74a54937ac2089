"""An ONNX graph from elsewhere under the names and shapes of the model directory: z (, label) -> pixels, image.

Shape legend: N batch, Z z_dim, C image channels, R resolution.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from stylewire.latents import Array
from stylewire_export.onnx_import.file import graphs_in
from stylewire_export.onnx_import.signature import Signature

RANGES = {"-1,1": (1.0, 0.0), "0,1": (2.0, -1.0), "0,255": (1 / 127.5, -1.0)}
"""Range that a generator draws in -> factor and summand that convert it to [-1, 1]."""
_PREFIX = "original/"
_OURS = "stylewire/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayout:
    """What the image of such a graph looks like.

    Attributes:
        channels: C.
        resolution_px: R.
        channels_last: it comes as [N, R, R, C], not as [N, C, R, R].
        value_range: the range it lies in, a key of ``RANGES``.
    """

    channels: int
    resolution_px: int
    channels_last: bool
    value_range: str


def adapt(model: onnx.ModelProto, signature: Signature, layout: ImageLayout) -> onnx.ModelProto:
    """Wrap a graph.

    Args:
        model: checked; stays as it is.
        signature: of the model.
        layout: of its image.

    Returns:
        A graph with inputs z float32[N, Z] (, label float32[N, label_dim]), and outputs pixels uint8[N, R, R, C] and
        image float32[N, C, R, R]; N is dynamic.
    """
    inner = onnx.compose.add_prefix(model, _PREFIX)
    weights = {tensor.name for tensor in inner.graph.initializer}
    before, constants = _inputs(signature)
    after, more_constants = _outputs(signature, layout)
    kept = [value for value in inner.graph.input if value.name in weights]  # an old file lists its weights as inputs
    sizes = {"z": signature.z_dim, "label": signature.label_dim}
    side, channels = layout.resolution_px, layout.channels
    graph = helper.make_graph(
        [*before, *inner.graph.node, *after],
        "generator",
        [*(helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", s]) for n, s in sizes.items() if s), *kept],
        [
            helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", side, side, channels]),
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", channels, side, side]),
        ],
        [*inner.graph.initializer, *constants, *more_constants],
        sparse_initializer=list(inner.graph.sparse_initializer),
    )
    opsets = [entry for entry in inner.opset_import if entry.domain in ("", "ai.onnx")]
    for node in (node for inside in graphs_in(graph) for node in inside.node):
        node.ClearField("doc_string")  # exporters leave stack traces in it, with the paths of their machine
    return helper.make_model(graph, ir_version=inner.ir_version, opset_imports=opsets, producer_name="stylewire")


def to_image(drawn: NDArray[np.generic], layout: ImageLayout) -> Array:
    """Convert an output of any number type to float32[N, C, R, R] in [-1, 1], as the wrapped graph does.

    Args:
        drawn: [N, C, R, R], or [N, R, R, C] where ``layout.channels_last``.
        layout: of the output.
    """
    factor, summand = RANGES[layout.value_range]
    image = drawn.transpose(0, 3, 1, 2) if layout.channels_last else drawn  # [N, C, R, R]
    return np.ascontiguousarray(image.astype(np.float32) * np.float32(factor) + np.float32(summand))


def to_pixels(image: Array) -> NDArray[np.uint8]:
    """Round float32[N, C, R, R] in [-1, 1] to uint8[N, R, R, C], as the wrapped graph does."""
    levels = np.clip(image * np.float32(127.5) + np.float32(128), 0, 255)
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(0, 2, 3, 1))  # [N, R, R, C]


def _inputs(signature: Signature) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Make the nodes from z and label to the inputs of the graph."""
    nodes, constants = [], []
    sources = {"z": signature.z} | ({"label": signature.label} if signature.label is not None else {})
    for name, target in sources.items():
        source = name
        if signature.label is None and signature.label_dim:
            source = f"{_OURS}{name}_label"
            nodes.append(helper.make_node("Concat", ["z", "label"], [source], axis=1))
        shape = np.array([-1, target.size, *[1] * target.trailing], np.int64)
        constants.append(onnx.numpy_helper.from_array(shape, f"{_OURS}{name}_shape"))
        nodes.append(helper.make_node("Reshape", [source, constants[-1].name], [_PREFIX + target.name]))
    return nodes, constants


def _outputs(signature: Signature, layout: ImageLayout) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Make the nodes from the graph's output to the image, and to bytes: trunc(clamp(x * 127.5 + 128, 0, 255)).

    Max and Min stand for Clip, whose limits became inputs only in operator set 11.
    """
    factor, summand = RANGES[layout.value_range]
    values = {"factor": factor, "summand": summand, "half": 127.5, "middle": 128.0, "low": 0.0, "high": 255.0}
    constants = [
        onnx.numpy_helper.from_array(np.array(value, np.float32), f"{_OURS}{key}") for key, value in values.items()
    ]
    order = [0, 3, 1, 2] if layout.channels_last else [0, 1, 2, 3]
    steps = [
        helper.make_node("Transpose", [_PREFIX + signature.image], [f"{_OURS}planar"], perm=order),
        helper.make_node("Mul", [f"{_OURS}planar", f"{_OURS}factor"], [f"{_OURS}scaled"]),
        helper.make_node("Add", [f"{_OURS}scaled", f"{_OURS}summand"], ["image"]),
        helper.make_node("Mul", ["image", f"{_OURS}half"], [f"{_OURS}halves"]),
        helper.make_node("Add", [f"{_OURS}halves", f"{_OURS}middle"], [f"{_OURS}levels"]),
        helper.make_node("Max", [f"{_OURS}levels", f"{_OURS}low"], [f"{_OURS}not_negative"]),
        helper.make_node("Min", [f"{_OURS}not_negative", f"{_OURS}high"], [f"{_OURS}clamped"]),
        helper.make_node("Cast", [f"{_OURS}clamped"], [f"{_OURS}bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", [f"{_OURS}bytes"], ["pixels"], perm=[0, 2, 3, 1]),
    ]
    return steps, constants
