"""The operators of ONNX that generators are made of, in PyTorch, so that gradients go through them.

An operator takes the node's attributes and its inputs, None for one that is left out, and returns one tensor or, where
it has several outputs, a tuple.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Attributes: TypeAlias = Mapping[str, Any]
Operator: TypeAlias = Callable[..., Tensor | tuple[Tensor, ...]]

_TYPES = {1: torch.float32, 2: torch.uint8, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16}
"""Numbers of onnx.TensorProto.DataType."""


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padding = (top, left)
    if (top, left) != (bottom, right):
        x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
    strides, dilations = attributes.get("strides", 1), attributes.get("dilations", 1)
    return functional.conv2d(x, weight, bias, strides, padding, dilations, attributes.get("group", 1))


def _conv_transpose(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    even = (top, left) == (bottom, right)
    y = functional.conv_transpose2d(
        x,
        weight,
        bias,
        stride=attributes.get("strides", 1),
        padding=(top, left) if even else 0,
        output_padding=attributes.get("output_padding", 0),
        groups=attributes.get("group", 1),
        dilation=attributes.get("dilations", 1),
    )
    cropped: Tensor = y if even else y[..., top : y.shape[-2] - bottom, left : y.shape[-1] - right]
    return cropped


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    product = (
        (a.T if attributes.get("transA") else a)
        @ (b.T if attributes.get("transB") else b)
        * attributes.get("alpha", 1.0)
    )
    y: Tensor = product if c is None else product + c * attributes.get("beta", 1.0)
    return y


def _slice(  # noqa: PLR0913, PLR0917 - ONNX has so many inputs
    attributes: Attributes,  # noqa: ARG001 - as all operators
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    places = list(range(len(starts))) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in zip(places, starts.tolist(), ends.tolist(), strides, strict=True):
        cut[axis] = slice(start, end, step)
    return x[tuple(cut)]


def _reshape(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:  # noqa: ARG001
    sizes = shape.tolist()
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)])


def _unsqueeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    places = _axes(attributes, axes) or []
    for axis in sorted(place % (x.ndim + len(places)) for place in places):
        x = x.unsqueeze(axis)
    return x


def _squeeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    places = _axes(attributes, axes)
    return x.squeeze() if places is None else x.squeeze(tuple(places))


def _split(attributes: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = attributes.get("axis", 0)
    return (
        x.chunk(attributes["num_outputs"], axis) if sizes is None else torch.split_with_sizes(x, sizes.tolist(), axis)
    )


def _pad(
    attributes: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    mode = attributes.get("mode", b"constant").decode()
    if mode != "constant" or axes is not None:
        raise NotImplementedError(f"Pad with mode {mode!r} and axes {axes is not None}")
    sizes = pads.tolist()
    before, after = sizes[: x.ndim], sizes[x.ndim :]
    last_first = [size for axis in reversed(range(x.ndim)) for size in (before[axis], after[axis])]
    return functional.pad(x, last_first, value=0.0 if value is None else value.item())


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def operator(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        places = _axes(attributes, axes)
        return function(
            x, list(range(x.ndim)) if places is None else places, keepdim=bool(attributes.get("keepdims", 1))
        )

    return operator


def _clip(attributes: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:  # noqa: ARG001
    return x.clamp(low, high)


def _plain(function: Callable[..., Tensor]) -> Operator:
    """Return the operator of a function that needs no attributes."""
    return lambda attributes, *inputs: function(*inputs)  # noqa: ARG005


def _axes(attributes: Attributes, axes: Tensor | None) -> Sequence[int] | None:
    """Return the axes, which were an attribute before opset 13 (of reductions: 18) and are an input since."""
    found: Sequence[int] | None = attributes.get("axes") if axes is None else axes.tolist()
    return found


OPERATORS: Mapping[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "Cast": lambda attributes, x: x.to(_TYPES[attributes["to"]]),
    "Clip": _clip,
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _plain(torch.div),
    "Exp": _plain(torch.exp),
    "Flatten": lambda attributes, x: x.flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "Identity": _plain(lambda x: x),
    "LeakyRelu": lambda attributes, x: functional.leaky_relu(x, attributes.get("alpha", 0.01)),
    "MatMul": _plain(torch.matmul),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Pad": _pad,
    "Pow": _plain(torch.pow),
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": lambda attributes, x: x.permute(attributes["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""By the name in ONNX."""
