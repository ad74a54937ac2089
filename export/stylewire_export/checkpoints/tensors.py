"""Tensors of a checkpoint before they are tensors: bounded views of bytes that nobody has copied yet.

A record is checked completely when it is made (bounds, no overlap: format notes 3, section 3.8), and copied only when
a network needs it. Shapes and strides count elements, as in torch.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stylewire_export.errors import CheckpointError, quote

MAX_DIMENSIONS = 8
MAX_ELEMENTS = 2**31
SUSPICIOUS_MAGNITUDE = 1e6  # a wrong byte order makes values up to 1e38; trained weights stay far below


@dataclass(frozen=True, slots=True)
class DataType:
    """A number type: its torch name and the NumPy code of its little-endian items."""

    name: str
    code: str

    @property
    def item_bytes(self) -> int:
        """Size of one element in bytes."""
        return np.dtype(self.code).itemsize


BFLOAT16 = DataType("bfloat16", "<u2")  # NumPy has no such type: read as integers, widened when used
TYPES_BY_STORAGE = {
    "FloatStorage": DataType("float32", "<f4"),
    "HalfStorage": DataType("float16", "<f2"),
    "BFloat16Storage": BFLOAT16,
    "DoubleStorage": DataType("float64", "<f8"),
    "LongStorage": DataType("int64", "<i8"),
    "IntStorage": DataType("int32", "<i4"),
    "ShortStorage": DataType("int16", "<i2"),
    "CharStorage": DataType("int8", "<i1"),
    "ByteStorage": DataType("uint8", "<u1"),
    "BoolStorage": DataType("bool", "|b1"),
}


@dataclass(slots=True, eq=False)
class Storage:
    """A run of numbers in the file; ``content`` is filled when the container has found it."""

    dtype: DataType
    element_count: int
    content: memoryview | None = None
    checksum: int | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes that the declared elements take."""
        return self.element_count * self.dtype.item_bytes

    def open(self) -> memoryview:
        """Return the bytes; the first time, compare them with the archive's checksum.

        Raises:
            CheckpointError: they are missing, too few or damaged.
        """
        if self.content is None or len(self.content) != self.size_bytes:
            raise CheckpointError("a tensor has no data: the file is incomplete")
        if self.checksum is not None and zlib.crc32(self.content) != self.checksum:
            raise CheckpointError("the data of a tensor does not match its checksum: the file is damaged")
        self.checksum = None
        return self.content


@dataclass(frozen=True, slots=True, eq=False)
class TensorRecord:
    """A view of a storage; make it with :func:`view_storage`, which checks the bounds.

    Attributes:
        storage: holds the elements.
        offset: of the first element.
        shape: of the tensor.
        stride: steps along each axis.
        label: name in the file, for messages, where it differs from the name in use.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    label: str = ""

    def squeezed(self, *axes: int) -> "TensorRecord":
        """Drop axes of size 1.

        Raises:
            CheckpointError: an axis is missing or has another size.
        """
        if any(axis >= len(self.shape) or self.shape[axis] != 1 for axis in axes):
            raise CheckpointError(f"a tensor of shape {list(self.shape)} should have size 1 along axes {list(axes)}")
        kept = [axis for axis in range(len(self.shape)) if axis not in axes]
        shape, stride = (tuple(values[axis] for axis in kept) for values in (self.shape, self.stride))
        return TensorRecord(self.storage, self.offset, shape, stride, self.label)

    def labeled(self, label: str) -> "TensorRecord":
        """Return the record with a name for messages, or as it is where it has one."""
        return self if self.label else TensorRecord(self.storage, self.offset, self.shape, self.stride, label)

    def to_array(self) -> NDArray[np.generic]:
        """Copy to a C-contiguous array of this shape and of the stored type (bfloat16 becomes float32)."""
        dtype = np.dtype(self.storage.dtype.code)
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        # The constructor checks the bounds a second time.
        strides = tuple(step * dtype.itemsize for step in self.stride)
        start = self.offset * dtype.itemsize
        view: NDArray[np.generic] = np.ndarray(self.shape, dtype, self.storage.open(), start, strides)
        if self.storage.dtype is BFLOAT16:
            bits = np.array(view, np.uint32, order="C")
            bits <<= 16  # in place, because NumPy turns results of 0 axes into scalars
            return bits.view(np.float32)
        return np.array(view, order="C", copy=True)


def view_storage(storage: object, offset: object, shape: object, stride: object) -> TensorRecord:
    """Make a record from the arguments in a pickle.

    Raises:
        CheckpointError: it leaves its storage, overlaps itself, or the arguments are of other types.
    """
    if type(storage) is not Storage:
        raise CheckpointError("a tensor is built on something that is no storage")
    sizes, steps = _counts(shape), _counts(stride)
    if type(offset) is not int or offset < 0 or len(sizes) != len(steps):
        raise CheckpointError("a tensor has an impossible offset, shape or stride")
    element_count, available = prod(sizes), storage.element_count
    if element_count > min(MAX_ELEMENTS, available):
        raise CheckpointError(
            f"a tensor of {element_count} elements is declared over a storage of {available} (limit {MAX_ELEMENTS})"
        )
    last = offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if offset > available or (element_count and last >= available):
        raise CheckpointError(f"a tensor reaches element {last} of a storage of {available}")
    if element_count and _overlaps(sizes, steps):
        raise CheckpointError(f"a tensor of shape {list(sizes)} and strides {list(steps)} overlaps itself")
    return TensorRecord(storage, offset, sizes, steps)


def wrap_array(array: NDArray[np.float32]) -> TensorRecord:
    """Make a record of an array of any shape that this package computed."""
    storage = Storage(TYPES_BY_STORAGE["FloatStorage"], array.size, memoryview(array.tobytes()))
    return view_storage(storage, 0, array.shape, dense_strides(array.shape))


def dense_strides(shape: tuple[int, ...], *, column_major: bool = False) -> tuple[int, ...]:
    """Compute the strides of an array without gaps, in elements."""
    if column_major:
        return tuple(prod(shape[:axis]) for axis in range(len(shape)))
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _counts(values: object) -> tuple[int, ...]:
    if type(values) is not tuple or len(values) > MAX_DIMENSIONS:
        raise CheckpointError(f"a tensor's shape and strides must be tuples of at most {MAX_DIMENSIONS} numbers")
    if any(type(value) is not int or value < 0 for value in values):
        raise CheckpointError("a tensor's shape and strides must be whole numbers, none negative")
    return values


def _overlaps(sizes: tuple[int, ...], steps: tuple[int, ...]) -> bool:
    """Any order of axes is fine (channels-last, transposed) as long as each axis steps over all smaller ones."""
    span = 1
    for step, size in sorted((step, size) for size, step in zip(sizes, steps, strict=True) if size > 1):
        if step < span:
            return True
        span = step * size
    return False


def bound_copies(records: Mapping[str, TensorRecord], *, file_bytes: int) -> None:
    """Refuse records that take more memory than their file accounts for: many names may share one storage.

    Args:
        records: name -> record; each takes 4 bytes an element.
        file_bytes: size of the file; twice that is accepted.

    Raises:
        CheckpointError: they take more.
    """
    needed = 4 * sum(prod(record.shape) for record in records.values())
    if needed > 2 * file_bytes + 2**20:  # half precision takes twice its size in float32; small buffers may be shared
        raise CheckpointError(f"its tensors take {needed} bytes in a file of {file_bytes}: many names share few data")


def to_tensors(records: Mapping[str, TensorRecord], *, file_bytes: int) -> tuple[dict[str, Tensor], list[str]]:
    """Copy the tensors that a network needs.

    Args:
        records: name -> record.
        file_bytes: bounds the copies: many names of one storage must not fill the memory.

    Returns:
        name -> contiguous float32 tensor, all finite; and notes about unusual values.

    Raises:
        CheckpointError: NaN or infinite values, a type that is no float, or more data than the file can hold.
    """
    bound_copies(records, file_bytes=file_bytes)
    notes: list[str] = []
    tensors = {}
    for name, record in records.items():
        array = to_float32(record, name)
        if array.size and float(np.abs(array).max()) > SUSPICIOUS_MAGNITUDE:
            notes.append(f"tensor {quote(record.label or name)} holds values above {SUSPICIOUS_MAGNITUDE:g}")
        tensors[name] = torch.from_numpy(array)
    if any(record.storage.dtype.name in ("float16", "bfloat16") for record in records.values()):
        notes.append("some tensors are stored in half precision; they were widened to float32")
    return tensors, notes


def to_float32(record: TensorRecord, name: str) -> NDArray[np.float32]:
    """Copy one tensor to a C-contiguous array of its shape.

    Raises:
        CheckpointError: it holds no floats, or NaN or infinite values.
    """
    shown, stored = quote(record.label or name), record.storage.dtype.name
    if "float" not in stored:
        raise CheckpointError(f"tensor {shown} holds {stored}, where a float is expected")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which is refused below
        array = record.to_array().astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise CheckpointError(f"tensor {shown} holds NaN or infinite values")
    return array
