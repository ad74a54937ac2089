"""Tensors that point outside of their data, and containers of older or other kinds that misreport."""

import pickletools
import struct
from io import BytesIO

import numpy as np
import pytest
import torch

from stylewire_export.checkpoints import read_generator
from stylewire_export.checkpoints.containers.content import read_content
from stylewire_export.checkpoints.tensors import TYPES_BY_STORAGE, Storage, TensorRecord, to_tensors, view_storage
from stylewire_export.errors import CheckpointError

FLOAT32 = TYPES_BY_STORAGE["FloatStorage"]


@pytest.fixture
def read(tmp_path):
    """Writes bytes and reads them as a file."""

    def read(content):
        (tmp_path / "model.pt").write_bytes(content)
        return read_content(tmp_path / "model.pt").root

    return read


@pytest.mark.parametrize(
    ("offset", "shape", "stride", "reason"),
    [
        (0, (2, 2), (2,), "impossible offset, shape or stride"),
        (-1, (2, 2), (2, 1), "impossible offset"),
        (True, (2, 2), (2, 1), "impossible offset"),
        (0, (2, True), (2, 1), "whole numbers, none negative"),
        (0, [2, 2], (2, 1), "must be tuples"),
        (0, (2, -2), (2, 1), "whole numbers, none negative"),
        (0, (2, 2), (2, -1), "whole numbers, none negative"),
        (0, (1,) * 9, (1,) * 9, "tuples of at most 8 numbers"),
        (0, (3, 2), (2, 1), "6 elements is declared over a storage of 4"),
        (0, (10**9, 10**9, 10**9), (0, 0, 0), "declared over a storage of 4"),
        (0, (4, 1), (0, 0), "overlaps itself"),
        (0, (2, 2), (1, 1), "overlaps itself"),
        (1, (2, 2), (2, 1), "reaches element 4 of a storage of 4"),
        (5, (0,), (1,), "reaches element|impossible"),
        (2**70, (), (), "reaches element"),
    ],
)
def test_impossible_view_is_refused(offset, shape, stride, reason):
    """A tensor outside its storage, larger than it, or on top of itself is refused when it is declared."""
    storage = Storage(FLOAT32, 4)

    with pytest.raises(CheckpointError, match=reason):
        view_storage(storage, offset, shape, stride)


def _storage(values=(1, 2, 3, 4)):
    content = struct.pack(f"<{len(values)}f", *values)
    return Storage(FLOAT32, len(values), memoryview(content))


def test_many_names_of_one_storage_do_not_fill_the_memory():
    """A thousand tensors over one large storage are refused before they are copied."""
    storage = Storage(FLOAT32, 10**6, memoryview(bytes(4 * 10**6)))
    records = {str(index): view_storage(storage, 0, (1000, 1000), (1000, 1)) for index in range(1000)}

    with pytest.raises(CheckpointError, match="many names share few data"):
        to_tensors(records, file_bytes=4 * 10**6 + 1000)


def test_large_values_are_noted():
    """Weights that look like the wrong byte order are reported, as they might be right."""
    tensors, notes = to_tensors({"w": TensorRecord(_storage((1, -2e9, 3, 4)), 0, (4,), (1,))}, file_bytes=100)

    assert torch.equal(torch.tensor([1, -2e9, 3, 4]), tensors["w"])
    assert notes == ["tensor 'w' holds values above 1e+06"]


@pytest.fixture
def stream():
    """A file of {"weight": tensor} in the legacy container, split into its five pickles and its data."""
    buffer = BytesIO()
    torch.save({"weight": torch.arange(4.0)}, buffer, _use_new_zipfile_serialization=False)
    buffer.seek(0)
    pickles = []
    for _ in range(5):
        start = buffer.tell()
        list(pickletools.genops(buffer))  # moves to the end of the pickle
        pickles.append(buffer.getvalue()[start : buffer.tell()])
    return pickles, buffer.read()


def test_legacy_stream_is_read(read, stream):
    """The control: the stream as torch wrote it holds its tensor."""
    pickles, data = stream

    np.testing.assert_array_equal(np.arange(4.0), read(b"".join(pickles) + data)["weight"].to_array())


@pytest.mark.parametrize("index", range(5))
def test_payload_in_any_pickle_of_the_stream_is_refused(read, stream, index):
    """A legacy file is five pickles: all of them are read with the same table."""
    pickles, data = stream
    pickles[index] = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."

    with pytest.raises(CheckpointError, match=r"os\.system"):
        read(b"".join(pickles) + data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p, d: (p, (5).to_bytes(8, "little") + d[8:]), "4 elements says that it has 5"),
        (lambda p, d: (p, d[:-1]), "cut off"),
        (lambda p, d: (p, d + b"x"), "bytes follow the last storage"),
        (lambda p, d: ([*p[:4], b"\x80\x02]."], d), "other storages than its tensors use"),
        (lambda p, d: ([*p[:4], p[4][:-1] + b"X\x01\0\0\0za."], d), "other storages than its tensors use"),
        (lambda p, d: ([*p[:4], b"\x80\x02}."], d), "does not list its storages"),
        (lambda p, d: ([*p[:2], p[2].replace(b"little_endian", b"little_indian"), *p[3:]], d), "big-endian"),
        (lambda p, d: ([p[0], b"\x80\x02M\xea\x03.", *p[2:]], d), "unknown version"),
        (lambda p, d: ([*p[:3], p[3].replace(b"storage", b"xtorage"), p[4]], d), "else than a storage"),
    ],
)
def test_lying_legacy_stream_is_refused(read, stream, change, reason):
    """Counts, keys and the description of the machine must agree with the data."""
    pickles, data = change(*stream)

    with pytest.raises(CheckpointError, match=reason):
        read(b"".join(pickles) + data)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        ((10).to_bytes(8, "little") + b'{"a": 1}  ', "safetensors"),
        (b"\x08\x07\x12\x07pytorch\x1a\x032.1" + bytes(100), "ONNX"),
        (bytes(257) + b"ustar" + bytes(100), "tar archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
        (b"<html>no</html>", "text, not a checkpoint .*failed download.*'<html>no</html>'"),
        (b"curl: (22) The requested URL returned error: 404\n", "text, not a checkpoint"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip"),
        (b"\x93NUMPY" + bytes(100), "NumPy array"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\x80", "unknown kind of file"),
        (b"\x80\x7f", "unknown kind of file"),
        (b"\xff" * 40, "unknown kind of file, beginning with the bytes ff ff"),
        (b"(dp0\nS'a'\np1\nI1\ns.", "protocol 0 or 1"),
        (b"", "the file is empty"),
    ],
)
def test_foreign_file_is_called_by_its_name(read, content, reason):
    """A file of another kind is recognized by its first bytes, with the fix where there is one."""
    with pytest.raises(CheckpointError, match=reason):
        read(content)


def test_missing_file_and_directory_are_refused(tmp_path):
    """Paths that are no files give one sentence too."""
    with pytest.raises(CheckpointError, match=r"absent\.pkl: the file cannot be read: No such file"):
        read_generator(tmp_path / "absent.pkl")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_generator(tmp_path)
