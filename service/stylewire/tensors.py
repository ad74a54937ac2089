"""ndarray <-> pb.Tensor: the only place that checks shape, dtype, byte length and finiteness."""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stylewire import pb

Array: TypeAlias = NDArray[np.float32]

_DTYPES: dict[int, np.dtype[Any]] = {
    pb.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    pb.DATA_TYPE_UINT8: np.dtype("u1"),
}
_TYPES = {dtype: pb.DataType.ValueType(data_type) for data_type, dtype in _DTYPES.items()}


class TensorError(ValueError):
    """A tensor is not what its field takes; the message has what was found and what is expected."""


def to_tensor(array: NDArray[np.float32] | NDArray[np.uint8]) -> pb.Tensor:
    """Convert an array to a message; see ``fill_tensor``."""
    tensor = pb.Tensor()
    fill_tensor(tensor, array)
    return tensor


def fill_tensor(tensor: pb.Tensor, array: NDArray[np.float32] | NDArray[np.uint8]) -> None:
    """Write an array into an empty tensor, such as that of a response: a finished tensor would be copied into it.

    Args:
        tensor: empty; filled in place.
        array: float32 or uint8 of any shape.

    Raises:
        TensorError: the array has another dtype.
    """
    data_type = _TYPES.get(array.dtype.newbyteorder("<"))
    if data_type is None:
        raise TensorError(f"dtype {array.dtype} cannot be sent; convert to float32 or uint8")
    tensor.data_type = data_type
    tensor.shape.extend(array.shape)
    tensor.data = np.ascontiguousarray(array, _DTYPES[data_type]).tobytes()


def to_array(tensor: pb.Tensor) -> NDArray[np.float32] | NDArray[np.uint8]:
    """View a tensor of any shape as an array.

    Returns:
        float32 or uint8 of the tensor's shape, read-only: the message's own bytes.

    Raises:
        TensorError: unknown type, negative axis, or a byte length that does not fit the shape.
    """
    dtype = _DTYPES.get(tensor.data_type)
    if dtype is None:
        raise TensorError(f"data_type is {_type_name(tensor.data_type)}; expected FLOAT32 or UINT8")
    shape = tuple(tensor.shape)
    if any(length < 0 for length in shape):
        raise TensorError(f"shape {list(shape)[:8]} has a negative axis")
    expected = math.prod(shape) * dtype.itemsize
    if len(tensor.data) != expected:
        raise TensorError(f"data has {len(tensor.data)} bytes; shape {list(shape)[:8]} needs {expected}")
    array: NDArray[np.float32] | NDArray[np.uint8] = np.frombuffer(tensor.data, dtype).reshape(shape)
    return array


def to_float_array(tensor: pb.Tensor, shape: tuple[int, ...]) -> Array:
    """View a FLOAT32 tensor of a known shape as an array.

    Returns:
        float32 of this shape, read-only, finite.

    Raises:
        TensorError: another type or shape, wrong byte length, NaN or infinity.
    """
    if tensor.data_type != pb.DATA_TYPE_FLOAT32:
        raise TensorError(f"data_type is {_type_name(tensor.data_type)}; expected FLOAT32")
    if tuple(tensor.shape) != shape:
        raise TensorError(f"shape is {list(tensor.shape)[:8]}; expected {list(shape)}")
    array = to_array(tensor).astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise TensorError("holds NaN or infinity")
    return array


def _type_name(value: int) -> str:
    if value in pb.DataType.values():
        return pb.DataType.Name(pb.DataType.ValueType(value)).removeprefix("DATA_TYPE_")
    return f"{value}, which is no DataType"
