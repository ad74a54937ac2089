"""Placeholders for NumPy's numbers, arrays and types, and for the bytes that old pickles write as text.

Only plain little-endian numbers: an array of objects would hold pickles again. Source of the layouts: NumPy's
``__reduce__`` and ``__setstate__``, and ``save_bytes`` of Python's ``pickle`` for bytes in protocol 2.
"""

from collections.abc import Callable
from math import prod

import numpy as np

from stylewire_export.checkpoints.pickles.placeholders import Budget, Placeholder, SafeGlobal
from stylewire_export.checkpoints.tensors import (
    MAX_DIMENSIONS,
    DataType,
    Storage,
    TensorRecord,
    dense_strides,
    view_storage,
)
from stylewire_export.errors import CheckpointError, quote

_CODES = frozenset({"b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"})


class NumpyType(Placeholder):
    """A NumPy number type before and after its byte order is known."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code

    def build(self, state: object) -> None:
        """Check that it is a plain little-endian number: (3, order, no fields ...)."""
        if type(state) is not tuple or state[:1] != (3,) or len(state) != 8 or state[1] not in ("<", "|", "="):
            raise CheckpointError("a NumPy type has an unknown description; little-endian numbers are supported")
        if state[2:] != (None, None, None, -1, -1, 0):
            raise CheckpointError("a NumPy type is not a plain number")

    @property
    def data_type(self) -> DataType:
        """The same type under its long name."""
        dtype = np.dtype("<" + self.code)
        return DataType(dtype.name, dtype.str)


class NumpyArray(Placeholder):
    """A NumPy array; after BUILD its ``state`` stays empty and ``tensor`` holds a record."""

    __slots__ = ("tensor",)

    def __init__(self) -> None:
        super().__init__()
        self.tensor: TensorRecord | None = None

    def build(self, state: object) -> None:
        """Set shape and data from (1, shape, type, column-major, bytes)."""
        if self.tensor is not None or type(state) is not tuple or len(state) != 5:
            raise CheckpointError("a NumPy array has an unknown state")
        version, shape, dtype, fortran, content = state
        if version != 1 or type(dtype) is not NumpyType or type(fortran) is not bool:
            raise CheckpointError("a NumPy array has an unknown state")
        if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
            raise CheckpointError("a NumPy array has an impossible shape")
        storage = Storage(dtype.data_type, prod(shape), as_bytes(content))
        if storage.size_bytes != len(as_bytes(content)):
            raise CheckpointError("a NumPy array has more or fewer bytes than its shape needs")
        self.tensor = view_storage(storage, 0, shape, dense_strides(shape, column_major=fortran))


def as_bytes(value: object) -> memoryview:
    """Return a value of the pickle that must be a byte string.

    Raises:
        CheckpointError: it is something else.
    """
    if type(value) is not memoryview:
        raise CheckpointError("the pickle holds something else where bytes are expected")
    return value


NDARRAY = SafeGlobal()  # only as the first argument of _reconstruct


def numpy_globals(budget: Budget) -> dict[tuple[str, str], object]:
    """List the names of NumPy and of ``_codecs``, as one part of a table."""
    table: dict[tuple[str, str], object] = {
        ("numpy", "dtype"): SafeGlobal(call=_numpy_type),
        ("numpy", "ndarray"): NDARRAY,
        ("_codecs", "encode"): SafeGlobal(call=_latin1_encoder(budget)),
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before and since NumPy 2
        table[module, "scalar"] = SafeGlobal(call=_numpy_scalar)
        table[module, "_reconstruct"] = SafeGlobal(call=_numpy_array)
    return table


def _latin1_encoder(budget: Budget) -> Callable[[tuple[object, ...]], object]:
    def encode(arguments: tuple[object, ...]) -> memoryview:
        """Undo how protocol 2 writes bytes: as text of the code points 0 to 255."""
        text, encoding = arguments if len(arguments) == 2 else (None, None)
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise CheckpointError("_codecs.encode is called with something else than text and 'latin1'")
        budget.spend_bytes(len(text))  # the same long text may be passed many times
        try:
            return memoryview(text.encode("latin1"))
        except UnicodeEncodeError as err:
            raise CheckpointError("text that stands for bytes holds other characters") from err

    return encode


def _numpy_type(arguments: tuple[object, ...]) -> object:
    code, *flags = arguments if len(arguments) == 3 else (None,)
    if type(code) is not str or code not in _CODES or flags != [False, True]:
        raise CheckpointError(f"NumPy type {quote(code)} is not supported, only plain numbers are")
    return NumpyType(code)


def _numpy_scalar(arguments: tuple[object, ...]) -> object:
    if len(arguments) != 2 or type(arguments[0]) is not NumpyType:
        raise CheckpointError("a NumPy number is made of unknown arguments")
    dtype, content = np.dtype("<" + arguments[0].code), as_bytes(arguments[1])
    if len(content) != dtype.itemsize:
        raise CheckpointError("a NumPy number has the wrong number of bytes")
    return np.frombuffer(content, dtype)[0].item()


def _numpy_array(arguments: tuple[object, ...]) -> object:
    # The real function allocates this shape; every file has (0,) here, and the real shape in the state for BUILD.
    type_tag, shape, code = arguments if len(arguments) == 3 else (None, None, None)
    if type_tag is not NDARRAY or shape != (0,) or bytes(as_bytes(code)[:2]) != b"b":
        raise CheckpointError("a NumPy array is made of unknown arguments")
    return NumpyArray()
