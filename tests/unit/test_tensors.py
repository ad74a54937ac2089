"""Tensors: every refusal names what was found."""

import numpy as np
import pytest

from stylewire import pb
from stylewire.tensors import TensorError, to_array, to_float_array, to_tensor


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_tensor_round_trip(dtype, shape):
    """What goes in comes out, of any shape."""
    array = np.arange(np.prod(shape), dtype=dtype).reshape(shape)

    assert np.array_equal(array, to_array(to_tensor(array)))
    assert dtype == to_array(to_tensor(array)).dtype


def test_big_endian_arrays_are_sent_little_endian():
    """Byte order on the wire is fixed."""
    assert to_tensor(np.array([1.5], ">f4")) == to_tensor(np.array([1.5], "<f4"))


def test_strided_arrays_are_sent_row_major():
    """A transposed view arrives as it is read."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T

    assert np.array_equal(array, to_array(to_tensor(array)))


def test_other_dtypes_are_refused():
    """A float64 array is not converted silently."""
    with pytest.raises(TensorError, match="float64"):
        to_tensor(np.zeros(3))


FLOAT3 = to_tensor(np.ones(3, np.float32))


@pytest.mark.parametrize(
    ("tensor", "found"),
    [
        (pb.Tensor(), "data_type is UNSPECIFIED"),
        (pb.Tensor(data_type=9), "data_type is 9"),
        (pb.Tensor(data_type=pb.DATA_TYPE_UINT8, shape=[3], data=b"abc"), "data_type is UINT8"),
        (pb.Tensor(data_type=pb.DATA_TYPE_FLOAT32, shape=[4], data=bytes(16)), r"shape is \[4\]; expected \[3\]"),
        (pb.Tensor(data_type=pb.DATA_TYPE_FLOAT32, shape=[3], data=bytes(11)), "11 bytes.*needs 12"),
        (to_tensor(np.array([0, np.nan, 0], np.float32)), "NaN"),
        (to_tensor(np.array([0, np.inf, 0], np.float32)), "infinity"),
    ],
)
def test_wrong_tensor_is_refused_with_what_was_found(tensor, found):
    """Type, shape, length and finiteness are checked."""
    with pytest.raises(TensorError, match=found):
        to_float_array(tensor, (3,))


@pytest.mark.parametrize("shape", [[-3], [2**62, 2**62], [2**63 - 1]])
def test_absurd_shapes_are_refused(shape):
    """Negative and overflowing shapes allocate nothing."""
    with pytest.raises(TensorError):
        to_array(pb.Tensor(data_type=pb.DATA_TYPE_FLOAT32, shape=shape, data=bytes(12)))
