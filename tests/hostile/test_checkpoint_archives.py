"""Zip archives with a lie in them: whatever two readers could understand differently is refused."""

import pickle
import struct
import zipfile
import zlib
from typing import NamedTuple

import numpy as np
import pytest
import torch

from stylewire_export.checkpoints import read_generator
from stylewire_export.checkpoints.containers.content import read_content
from stylewire_export.checkpoints.containers.torch_zip import MAX_ENTRIES
from stylewire_export.errors import CheckpointError


class Part(NamedTuple):
    """An entry of an archive, with everything that may contradict."""

    name: str
    data: bytes
    local_name: str | None = None
    method: int = 0
    flags: int = 0
    size: int | None = None
    checksum: int | None = None
    header: int | None = None
    local_size: int | None = None
    extra: bytes = b""


def _archive(parts, *, tail=b"", count=None, directory_shift=0):
    """Write a zip by hand, so that it can be wrong."""
    body, directory = b"", b""
    for part in parts:
        name, local = part.name.encode(), (part.local_name or part.name).encode()
        size = len(part.data) if part.size is None else part.size
        checksum = zlib.crc32(part.data) if part.checksum is None else part.checksum
        header = len(body) if part.header is None else part.header
        local_size = size if part.local_size is None else part.local_size
        body += struct.pack(
            "<4s5H3L2H", b"PK\3\4", 20, part.flags, part.method, 0, 0, checksum, local_size, local_size, len(local), 0
        )
        body += local + part.data
        directory += struct.pack(
            "<4s6H3L5H2L",
            b"PK\1\2",
            20,
            20,
            part.flags,
            part.method,
            0,
            0,
            checksum,
            size,
            size,
            len(name),
            len(part.extra),
            0,
            0,
            0,
            0,
            header,
        )
        directory += name + part.extra
    count = len(parts) if count is None else count
    end = struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, count & 0xFFFF, count & 0xFFFF, len(directory), len(body) + directory_shift, 0
    )
    return body + directory + end + tail


def _tensor_pickle(count=4, *, key="0", kind="FloatStorage", offset=0, shape=(2, 2), stride=(2, 1), identity=None):
    """The data.pkl of {"weight": tensor}."""

    def whole(number):
        return pickle.dumps(number, protocol=2)[2:-1]

    identity = identity or (
        b"(X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\n" + whole(key) + whole("cpu") + whole(count) + b"tQ"
    )
    call = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + whole(offset) + whole(shape) + whole(stride) + b"\x89}tR"
    )
    return b"\x80\x02}X\x06\x00\x00\x00weight" + call + b"s."


FLOATS = struct.pack("<4f", 1, 2, 3, 4)
GOOD = [Part("a/data.pkl", _tensor_pickle()), Part("a/data/0", FLOATS), Part("a/version", b"3\n")]


@pytest.fixture
def read(tmp_path):
    """Writes bytes and reads them as a file."""

    def read(content):
        (tmp_path / "model.pt").write_bytes(content)
        return read_content(tmp_path / "model.pt").root

    return read


def test_hand_written_archive_is_read(read):
    """The control: without a lie, the archive holds its tensor."""
    root = read(_archive(GOOD))

    np.testing.assert_array_equal([[1, 2], [3, 4]], root["weight"].to_array())


def test_archive_with_64_bit_fields_is_read(read):
    """Sizes and offsets may stand in the extra field for large files, as in any zip over 4 GiB."""
    header = len(_archive(GOOD[:1])) - len(_archive([])) - 46 - len("a/data.pkl")
    wide = struct.pack("<2H2QQ", 1, 24, len(FLOATS), len(FLOATS), header)
    part = Part("a/data/0", FLOATS, size=0xFFFFFFFF, header=0xFFFFFFFF, extra=wide)

    root = read(_archive([GOOD[0], part, GOOD[2]]))

    np.testing.assert_array_equal([[1, 2], [3, 4]], root["weight"].to_array())


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([*GOOD, Part("a/data/0", bytes(16))], "two entries have the same name"),
        ([*GOOD, Part("a/data/1", FLOATS, header=0)], "contradicts the directory|overlaps"),
        ([GOOD[0], GOOD[1], GOOD[2]._replace(size=100)], "overlaps the next one"),
        ([GOOD[0], GOOD[1]._replace(local_name="a/data/9"), GOOD[2]], "contradicts the directory"),
        ([GOOD[0], GOOD[1]._replace(local_size=8), GOOD[2]], "contradicts the directory"),
        ([GOOD[0], GOOD[1]._replace(flags=1), GOOD[2]], "encrypted"),
        ([GOOD[0], GOOD[1]._replace(method=8), GOOD[2]], "compressed"),
        ([GOOD[0]._replace(checksum=1), *GOOD[1:]], "does not match its checksum"),
        ([*GOOD, Part("b/other", b"")], "one root folder"),
        ([GOOD[1], GOOD[2]], "torch.save did not write"),
        ([Part("data.pkl", b"")], "torch.save did not write|unsafe name"),
        ([*GOOD, Part("a/../../up", b"")], "unsafe name"),
        ([*GOOD, Part("/a/x", b"")], "unsafe name"),
        ([*GOOD, Part("a\\x", b"")], "unsafe name"),
        ([*GOOD, Part("C:/x", b"")], "unsafe name"),
        ([*GOOD, Part("a/x\0y", b"")], "unsafe name"),
        ([*GOOD, Part("a/code/__torch__.py", b"")], "TorchScript"),
        ([*GOOD, Part("a/constants.pkl", b"")], "TorchScript"),
        ([Part("w.npy", b"")], "NumPy archive"),
        ([GOOD[0]._replace(data=GOOD[0].data + b"cos\nsystem\n."), *GOOD[1:]], "bytes follow the end"),
        ([*GOOD[:2], Part("a/version", b"99")], "unknown format version '99'"),
        ([*GOOD, Part("a/byteorder", b"big")], "big-endian"),
        ([GOOD[0], GOOD[2]], "storage '0' is missing"),
        (
            [GOOD[0], Part("a/data/0", FLOATS + FLOATS), GOOD[2]],
            "storage '0' is missing in the archive, or has another",
        ),
        ([Part("a/data.pkl", _tensor_pickle(key="../../etc")), *GOOD[1:]], "impossible key"),
        ([Part("a/data.pkl", _tensor_pickle(key="0" * 40)), *GOOD[1:]], "impossible key"),
        ([Part("a/data.pkl", _tensor_pickle(count=-1)), *GOOD[1:]], "unknown type, location or size"),
        ([Part("a/data.pkl", _tensor_pickle(identity=b"(K\x01K\x02tQ")), *GOOD[1:]], "else than a storage"),
        ([Part("a/data.pkl", _tensor_pickle(identity=b"K\x01Q")), *GOOD[1:]], "else than a storage"),
        ([Part("a/data.pkl", _tensor_pickle(identity=b"N")), *GOOD[1:]], "something that is no storage"),
        ([Part("a/data.pkl", _tensor_pickle(kind="storage")), *GOOD[1:]], "forbidden name 'torch.storage'"),
    ],
)
def test_contradictory_archive_is_refused(read, parts, reason):
    """Whatever two zip readers could understand differently, or torch never writes, is refused."""
    with pytest.raises(CheckpointError, match=reason):
        read(_archive(parts))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_archive(GOOD, tail=b"x"), "does not end with a directory"),
        (_archive(GOOD, directory_shift=-1), "not where it should be"),
        (_archive(GOOD, count=2), "not counted"),
        (_archive(GOOD, count=4), "damaged"),
        (_archive(GOOD)[:-30], "does not end with a directory"),
        (b"PK\3\4", "damaged"),
        (b"PK\5\6" + bytes(18), "an empty zip archive"),
        (b"PK\3\4" + _archive(GOOD), "damaged|contradicts"),
    ],
)
def test_damaged_directory_is_refused(read, content, reason):
    """The directory must end the file, lie where it says and hold as many entries as it says."""
    with pytest.raises(CheckpointError, match=reason):
        read(content)


def test_directory_of_too_many_entries_is_refused(read):
    """The number of entries is checked before they are read."""
    content = _archive(GOOD)
    body, end = content[:-22], content[-22:]
    size, start = struct.unpack_from("<2L", end, 12)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, MAX_ENTRIES + 1, MAX_ENTRIES + 1, size, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1)
    small = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, size, start, 0)

    with pytest.raises(CheckpointError, match=f"{MAX_ENTRIES + 1} entries"):
        read(body + record + locator + small)


def test_damaged_storage_is_refused_when_used(read):
    """The checksum of a tensor's data is compared when a network takes it."""
    root = read(_archive([GOOD[0], GOOD[1]._replace(checksum=7), GOOD[2]]))

    with pytest.raises(CheckpointError, match="does not match its checksum"):
        root["weight"].to_array()


@pytest.mark.parametrize("scripted", [True, False], ids=["TorchScript", "plain zip"])
def test_real_archives_of_other_kinds_are_refused(tmp_path, scripted):
    """Archives by torch.jit.save and by zipfile are told apart from checkpoints."""
    path = tmp_path / "model.pt"
    if scripted:
        with pytest.warns(DeprecationWarning, match="torch.jit"):
            torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), path)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("folder/readme.txt", "hello")

    with pytest.raises(CheckpointError, match="TorchScript" if scripted else "torch.save did not write"):
        read_generator(path)
