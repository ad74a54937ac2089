"""Which input of an ONNX graph from elsewhere is z, which is the label, and which output is the image.

Shape legend: N batch, Z z_dim, C image channels, R resolution.
"""

import re
from dataclasses import dataclass

import onnx

from stylewire_export.errors import CheckpointError, quote
from stylewire_export.onnx_import.file import free_inputs

MAX_INPUT = 65536  # numbers of an input; real ones have up to a few thousand
_Z_NAMES = re.compile(r"z|noise|latent|seed|random", re.IGNORECASE)
_LABEL_NAMES = re.compile(r"label|class|tag|attr|cond|^c$|^y$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Input:
    """An input of float32[N, size], or with axes of size 1 behind these.

    Attributes:
        trailing: how many axes of size 1 follow.
        batch: N if the file fixes it, None if it is dynamic.
    """

    name: str
    size: int
    trailing: int
    batch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How a graph is called.

    Attributes:
        z: takes z, or z followed by the label if ``label`` is None and ``label_dim`` is not 0.
        label: takes the label.
        image: name of the output.
    """

    z: Input
    label: Input | None
    z_dim: int
    label_dim: int
    image: str

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the file fixes, None if it is dynamic."""
        return self.z.batch


def find_signature(model: onnx.ModelProto, z_dim: int | None, label_dim: int | None) -> Signature:
    """Find the inputs and the image.

    Args:
        model: checked.
        z_dim: Z where several inputs, or one of z and label together, leave it open.
        label_dim: size of the label, to be compared with the file's.

    Raises:
        CheckpointError: the graph is no function z (, label) -> image; what it is instead.
    """
    inputs = [_input(value) for value in free_inputs(model.graph)]
    if len(inputs) not in (1, 2):
        names = ", ".join(quote(found.name, 60) for found in inputs[:4])
        raise CheckpointError(f"it has {len(inputs)} inputs ({names}); supported are z, or z and a label")
    z, label = (inputs[0], None) if len(inputs) == 1 else _order(inputs, z_dim)
    wanted = z_dim
    if wanted is None:
        wanted = z.size - (label_dim or 0) if label is None else z.size
    label_size = z.size - wanted if label is None else label.size
    if wanted < 1 or label_size < 0 or (label is not None and wanted != z.size):
        raise CheckpointError(
            f"its input {quote(z.name, 60)} takes {z.size} numbers, which does not fit a z of {wanted}"
        )
    if label_dim not in (None, label_size):
        raise CheckpointError(f"it takes a label of {label_size} numbers, not {label_dim}")
    if label is not None and label.batch != z.batch:
        raise CheckpointError(f"its inputs have different batch sizes: {z.batch} and {label.batch}")
    return Signature(z=z, label=label, z_dim=wanted, label_dim=label_size, image=_image(model))


def _input(value: onnx.ValueInfoProto) -> Input:
    name, tensor = quote(value.name, 60), value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        raise CheckpointError(f"its input {name} is not of type float32, which is not supported")
    batch, *sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim] or [None]
    if not sizes or sizes[0] is None or not 1 <= sizes[0] <= MAX_INPUT or any(size != 1 for size in sizes[1:]):
        shown = [size or "N" for size in (batch, *sizes)]
        raise CheckpointError(f"its input {name} has shape {shown}; supported are [N, Z] and [N, Z, 1, 1]")
    if batch is not None and batch < 1:
        raise CheckpointError(f"its input {name} has a batch size of {batch}")
    return Input(value.name, sizes[0], len(sizes) - 1, batch)


def _order(inputs: list[Input], z_dim: int | None) -> tuple[Input, Input]:
    """Order two inputs as z and label: by the size of z if it is known, else by name."""
    first, second = inputs
    if z_dim is not None and first.size != second.size:
        matches = [found.size == z_dim for found in inputs]
    else:
        named = [bool(_LABEL_NAMES.search(found.name)) for found in inputs]
        matches = [not label for label in named] if any(named) else [bool(_Z_NAMES.search(i.name)) for i in inputs]
    if matches == [True, False]:
        return first, second
    if matches == [False, True]:
        return second, first
    names = f"{quote(first.name, 60)} ({first.size} numbers) and {quote(second.name, 60)} ({second.size})"
    raise CheckpointError(f"which of its inputs {names} is z? Say it with --z-dim")


def _image(model: onnx.ModelProto) -> str:
    found = [value.name for value in model.graph.output if _may_be_image(value)]
    if len(found) != 1:
        names = ", ".join(quote(value.name, 60) for value in list(model.graph.output)[:4])
        raise CheckpointError(f"of its outputs ({names}), {len(found)} are images (4 axes, float32); one is expected")
    return found[0]


def _may_be_image(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.elem_type == onnx.TensorProto.FLOAT and (
        not tensor.HasField("shape") or len(tensor.shape.dim) == 4  # a graph may leave its shapes open
    )
