"""Files that ``torch.save`` has written since torch 1.6: a zip archive of a pickle and raw storages.

The directory is read strictly, because two readers that forgive different mistakes see two different files. Nothing
is extracted: entries are views of the mapped file, found by name. Source of the layout: APPNOTE.TXT 6.3 (zip).
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from stylewire_export.checkpoints.containers.torch_legacy import claim_storage
from stylewire_export.checkpoints.pickles.placeholders import Budget
from stylewire_export.checkpoints.pickles.safe_globals import torch_globals
from stylewire_export.checkpoints.pickles.unpickler import read_pickle
from stylewire_export.checkpoints.tensors import Storage
from stylewire_export.errors import CheckpointError, quote

MAGIC = b"PK\x03\x04"
MAX_ENTRIES = 100_000
_MAX_32 = 0xFFFFFFFF
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED, _SIZES_FOLLOW = 0x2041, 0x0008  # flag bits 0, 6 and 13; bit 3
_DAMAGED = "the zip archive is damaged or incomplete"
_NAME = re.compile(r"[^/\\:\x00-\x1f\x7f-\uffff]+")  # one component of a path


class Directory(NamedTuple):
    """Where the list of entries lies, and how many there are."""

    start: int
    end: int
    entry_count: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as the central directory describes it."""

    name: str
    flags: int
    method: int
    checksum: int
    packed: int  # size in the archive
    size: int
    header: int  # position of the local header

    @property
    def is_plain(self) -> bool:
        """Neither compressed nor encrypted."""
        return not (self.method or self.flags & _ENCRYPTED) and self.packed == self.size


def read_zip(content: memoryview, budget: Budget) -> object:
    """Read a whole file; the object holds tensor records.

    Raises:
        CheckpointError: the archive is damaged, or no file of ``torch.save``.
    """
    entries = _entries_of_one_root(content)
    if version := entries.get("version"):
        number = bytes(_data(content, version)[:8]).strip()
        if not number.isdigit() or not 1 <= int(number) <= 10:
            raise CheckpointError(f"the archive has the unknown format version {quote(number.decode('latin1'))}")
    if (order := entries.get("byteorder")) and bytes(_data(content, order)) != b"little":
        raise CheckpointError("the file was written on a big-endian machine, which is not supported")
    storages: dict[str, Storage] = {}

    def load_storage(identity: object) -> Storage:
        if type(identity) is not tuple:
            raise CheckpointError("the file refers to something else than a storage")
        storage = claim_storage(storages, identity)
        entry = entries.get(f"data/{identity[2]}")
        if entry is None or entry.size != storage.size_bytes:
            raise CheckpointError(f"storage {quote(identity[2])} is missing in the archive, or has another size there")
        storage.content, storage.checksum = _data(content, entry, verified=False), entry.checksum
        return storage

    pickled = _data(content, entries["data.pkl"])
    root, used = read_pickle(pickled, safe_globals=torch_globals(budget), budget=budget, persistent_load=load_storage)
    if used != len(pickled):
        raise CheckpointError("bytes follow the end of the pickle: the file is damaged")
    return root


def _entries_of_one_root(content: memoryview) -> dict[str, Entry]:
    """Map the names below the one root folder to their entries."""
    entries = list(_entries(content, _directory(content)))
    roots = {entry.name.partition("/")[0] for entry in entries}
    if any(entry.name.endswith(".npy") for entry in entries):
        raise CheckpointError("a NumPy archive (.npz); checkpoints of the supported families are .pkl or .pt")
    by_name = {entry.name.partition("/")[2]: entry for entry in entries}
    if "constants.pkl" in by_name or any(name.startswith("code/") for name in by_name):
        raise CheckpointError("a TorchScript archive, which holds code; give the checkpoint it was made from")
    if "data.pkl" not in by_name or len(roots) != 1:
        raise CheckpointError("a zip archive that torch.save did not write (it has no data.pkl in one root folder)")
    if odd := [entry.name for entry in entries if not entry.is_plain]:
        raise CheckpointError(f"the zip entry {quote(odd[0])} is compressed or encrypted; torch.save stores plain data")
    return by_name


def _directory(content: memoryview) -> Directory:
    if len(content) < _END.size:
        raise CheckpointError(_DAMAGED)
    position = len(content) - _END.size  # torch writes no comment, so the end record is the end of the file
    magic, disk, first_disk, on_disk, count, size, start, comment = _END.unpack_from(content, position)
    if magic != b"PK\x05\x06" or comment or disk or first_disk or on_disk != count:
        raise CheckpointError(_DAMAGED + ": it does not end with a directory")
    end = position
    if position >= _LOCATOR_64.size and bytes(content[position - _LOCATOR_64.size :][:4]) == b"PK\x06\x07":
        start, size, count, end = _directory_64(content, position - _LOCATOR_64.size, (start, size, count))
    if count > MAX_ENTRIES:
        raise CheckpointError(f"the zip archive has {count} entries (limit {MAX_ENTRIES})")
    if start + size != end:
        raise CheckpointError(_DAMAGED + ": its directory is not where it should be")
    return Directory(start, end, count)


def _directory_64(content: memoryview, locator: int, small: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Read the record for large files: start, size and count of the directory, and where it must end."""
    _, disk, position, disks = _LOCATOR_64.unpack_from(content, locator)
    if disk or disks != 1 or position + _END_64.size != locator:
        raise CheckpointError(_DAMAGED)
    magic, _, _, _, disk, first_disk, on_disk, count, size, start = _END_64.unpack_from(content, position)
    if magic != b"PK\x06\x06" or disk or first_disk or on_disk != count:
        raise CheckpointError(_DAMAGED)
    for value, short, limit in zip((start, size, count), small, (_MAX_32, _MAX_32, 0xFFFF), strict=True):
        if short not in (value, limit):
            raise CheckpointError(_DAMAGED + ": it has two directories")
    return start, size, count, position


def _entries(content: memoryview, directory: Directory) -> Iterator[Entry]:
    """Read and check the directory; data of entries must not overlap."""
    position, entries = directory.start, []
    for _ in range(directory.entry_count):
        entry, position = _entry(content, position, directory.end)
        entries.append(entry)
    if position != directory.end or len({entry.name for entry in entries}) != len(entries):
        raise CheckpointError(_DAMAGED + ": two entries have the same name, or some are not counted")
    in_order = sorted(entries, key=lambda entry: entry.header)
    limits = [entry.header for entry in in_order[1:]] + [directory.start]
    for entry, limit in zip(in_order, limits, strict=True):
        if _data_start(content, entry) + entry.packed > limit:
            raise CheckpointError(f"the zip entry {quote(entry.name)} overlaps the next one, or is cut off")
    return iter(entries)


def _entry(content: memoryview, position: int, end: int) -> tuple[Entry, int]:
    names = position + _ENTRY.size
    if names > end:
        raise CheckpointError(_DAMAGED)
    fields = _ENTRY.unpack_from(content, position)
    magic, _, _, flags, method, _, _, checksum, packed, size = fields[:10]
    name_size, extra_size, comment_size, disk, _, _, header = fields[10:]
    following = names + name_size + extra_size + comment_size
    if magic != b"PK\x01\x02" or disk or following > end:
        raise CheckpointError(_DAMAGED)
    name = _entry_name(bytes(content[names : names + name_size]))
    extra = content[names + name_size : names + name_size + extra_size]
    size, packed, header = _wide_fields(extra, (size, packed, header))
    return Entry(name, flags, method, checksum, packed, size, header), following


def _wide_fields(extra: memoryview, small: tuple[int, int, int]) -> tuple[int, int, int]:
    """Replace sizes and offset that do not fit in 32 bits by those of the extra field 1."""
    values, wide = list(small), [index for index, value in enumerate(small) if value == _MAX_32]
    while wide and len(extra) >= 4:
        kind, size = struct.unpack_from("<2H", extra)
        if kind == 1 and size >= 8 * len(wide) and len(extra) >= 4 + size:
            for index, value in zip(wide, struct.unpack_from(f"<{len(wide)}Q", extra, 4), strict=True):
                values[index] = value
            return values[0], values[1], values[2]
        extra = extra[4 + size :]
    if wide:
        raise CheckpointError(_DAMAGED)
    return small


def _entry_name(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError as err:
        raise CheckpointError("a zip entry has a name that is not UTF-8") from err
    components = name.split("/")
    if ".." in components or not all(_NAME.fullmatch(component) for component in components):
        raise CheckpointError(f"the zip entry {quote(name)} has an unsafe name, which torch.save never writes")
    return name


def _data_start(content: memoryview, entry: Entry) -> int:
    """Compare the header before the data with the directory, and return the position after it."""
    names = entry.header + _LOCAL.size
    if names > len(content):
        raise CheckpointError(_DAMAGED)
    magic, _, flags, method, _, _, checksum, packed, size, name_size, extra_size = _LOCAL.unpack_from(
        content, entry.header
    )
    name = bytes(content[names : names + name_size])
    if magic != MAGIC or method != entry.method or flags != entry.flags or name != entry.name.encode():
        raise CheckpointError(f"the zip entry {quote(entry.name)} has a header that contradicts the directory")
    known = (entry.checksum, entry.packed, entry.size)
    if not flags & _SIZES_FOLLOW and size != _MAX_32 and (checksum, packed, size) != known:
        raise CheckpointError(f"the zip entry {quote(entry.name)} has a header that contradicts the directory")
    return int(names + name_size + extra_size)


def _data(content: memoryview, entry: Entry, *, verified: bool = True) -> memoryview:
    start = _data_start(content, entry)
    data = content[start : start + entry.size]
    if verified and zlib.crc32(data) != entry.checksum:
        raise CheckpointError(f"the zip entry {quote(entry.name)} does not match its checksum: the file is damaged")
    return data
