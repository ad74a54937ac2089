"""Files that ``torch.save`` wrote before torch 1.6: five pickles, then the numbers.

NVIDIA's pickles nest the same stream, for one storage each, in byte strings. Source of the layout and of the magic
number: PyTorch's ``torch/serialization.py``, and format notes 3, section 3.6.
"""

from stylewire_export.checkpoints.pickles.placeholders import Budget
from stylewire_export.checkpoints.pickles.safe_globals import storage_globals, torch_globals
from stylewire_export.checkpoints.pickles.unpickler import read_pickle
from stylewire_export.checkpoints.tensors import DataType, Storage
from stylewire_export.errors import CheckpointError, quote

MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the pickle of 0x1950a86a20f9469cfc6c
_PROTOCOL = 1001
_SETUP_STEPS = 50  # what starting five small interpreters costs, beside their own steps
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


def read_legacy(content: memoryview, budget: Budget) -> object:
    """Read a whole file; the object holds tensor records.

    Raises:
        CheckpointError: the stream is damaged, or holds more than ``torch.save`` writes.
    """
    return _Stream(content, budget).read(nested=False)


def read_nested_storage(content: memoryview, budget: Budget) -> Storage:
    """Read the one storage of a stream that lies in a byte string.

    The real ``torch.storage._load_from_bytes`` runs anything; here the stream may hold a storage and nothing else.

    Raises:
        CheckpointError: the stream is damaged, or holds something else.
    """
    budget.spend(_SETUP_STEPS)
    if bytes(content[: len(MAGIC)]) != MAGIC:
        raise CheckpointError("the bytes of a tensor do not hold a torch stream")
    storage = _Stream(content, budget).read(nested=True)
    if type(storage) is not Storage:
        raise CheckpointError("the bytes of a tensor hold something else than a storage")
    return storage


class _Stream:
    def __init__(self, content: memoryview, budget: Budget) -> None:
        self.content, self.budget = content, budget
        self.position = 0
        self.storages: dict[str, Storage] = {}

    def read(self, *, nested: bool) -> object:
        if self._pickle(nested=True) != _MAGIC_NUMBER or self._pickle(nested=True) != _PROTOCOL:
            raise CheckpointError("the torch stream has an unknown version")
        self._check_system(self._pickle(nested=True))
        root = self._pickle(nested=nested)
        keys = self._pickle(nested=True)
        if type(keys) is not list or any(type(key) is not str for key in keys):
            raise CheckpointError("the torch stream does not list its storages")
        if len(set(keys)) != len(keys) or set(keys) != self.storages.keys():
            raise CheckpointError("the torch stream lists other storages than its tensors use")
        for key in keys:
            self._fill(self.storages[key])
        if self.position != len(self.content):
            raise CheckpointError("bytes follow the last storage: the file is damaged")
        return root

    def _pickle(self, *, nested: bool) -> object:
        """Read the next pickle; the small ones around the object, and nested ones, may only name storages."""
        allowed = storage_globals() if nested else torch_globals(self.budget)
        value, size = read_pickle(
            self.content[self.position :], safe_globals=allowed, budget=self.budget, persistent_load=self._storage
        )
        self.position += size
        return value

    def _check_system(self, system: object) -> None:
        if type(system) is not dict or system.get("protocol_version") != _PROTOCOL:
            raise CheckpointError("the torch stream does not describe the machine that wrote it")
        if system.get("little_endian") is not True:
            raise CheckpointError("the file was written on a big-endian machine, which is not supported")

    def _storage(self, identity: object) -> Storage:
        # ('storage', type, key, location, number of elements, view); the view is None since torch 0.4.
        if type(identity) is not tuple or len(identity) != 6 or identity[5] is not None:
            raise CheckpointError("the file refers to something else than a storage (module source is not supported)")
        return claim_storage(self.storages, identity[:5])

    def _fill(self, storage: Storage) -> None:
        count = int.from_bytes(self._take(8), "little")
        if count != storage.element_count:
            raise CheckpointError(f"a storage of {storage.element_count} elements says that it has {count}")
        storage.content = self._take(storage.size_bytes)

    def _take(self, size: int) -> memoryview:
        start, self.position = self.position, self.position + size
        if self.position > len(self.content):
            raise CheckpointError("the data of a tensor is cut off: the file is incomplete")
        return self.content[start : self.position]


def claim_storage(storages: dict[str, Storage], identity: tuple[object, ...]) -> Storage:
    """Return the storage of a persistent id: ('storage', type, key, location, number of elements).

    The location ("cuda:0") is where the writer had it, and is ignored.

    Raises:
        CheckpointError: the id is of another form, or the key was declared with another type or size before.
    """
    if len(identity) != 5 or identity[0] != "storage":
        raise CheckpointError("the file refers to something else than a storage")
    _, dtype, key, location, count = identity
    if type(dtype) is not DataType or type(location) is not str or type(count) is not int or count < 0:
        raise CheckpointError("a storage has an unknown type, location or size")
    if type(key) is not str or not 0 < len(key) <= 32 or "/" in key:
        raise CheckpointError(f"a storage has the impossible key {quote(key)}")
    storage = storages.setdefault(key, Storage(dtype, count))
    if storage.dtype != dtype or storage.element_count != count:
        raise CheckpointError(f"storage {quote(key)} is declared twice, in different ways")
    return storage
