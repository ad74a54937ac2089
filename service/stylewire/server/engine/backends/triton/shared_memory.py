"""Memory that a Triton on this machine shares with us, so that tensors do not travel through gRPC.

A region is a file in ``/dev/shm`` that both map. It is locked while its maker lives: whoever starts later finds by that
what a killed process left behind.
"""

import fcntl
import logging
import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

log = logging.getLogger(__name__)

FOLDER = Path("/dev/shm")  # noqa: S108 - shared memory is made there, for its user alone
_PREFIX = "stylewire-triton-"
_PAGE = 1 << 16
_SECONDS = 5.0


class Region:
    """A piece of memory.

    Args:
        byte_count: how much.

    Attributes:
        name: of its file, and what Triton calls it.
        byte_count: as above.
        data: uint8[byte_count], the memory.
        file: its descriptor, which holds the lock; -1 when the file is removed.

    Raises:
        OSError: there is not so much.
    """

    def __init__(self, byte_count: int) -> None:
        self.name, self.byte_count = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}", byte_count
        self._path = FOLDER / self.name
        self.file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self.file, 0, byte_count)  # else writing to a folder that is full kills the process
            self.data: NDArray[np.uint8] = np.frombuffer(mmap.mmap(self.file, byte_count), np.uint8)
        except BaseException:
            self.unlink()
            raise

    def unlink(self) -> None:
        """Remove the file; whoever has mapped it keeps the memory until it is done."""
        if self.file >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self.file)
            self.file = -1


class SharedMemory:
    """The regions that one server knows; used on one event loop.

    Args:
        client: ``tritonclient.grpc.aio.InferenceServerClient`` of the server.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._free: list[Region] = []
        self._regions: set[Region] = set()

    async def sweep(self) -> None:
        """Remove what processes left behind that were killed."""
        for name in _abandoned():
            await self._unregister(name)
            (FOLDER / name).unlink(missing_ok=True)

    async def take(self, byte_count: int) -> Region:
        """Return a region that is large enough, a free one if there is one.

        Raises:
            OSError: there is not so much memory.
            InferenceServerException: the server cannot map it: it has another ``/dev/shm``, or other rights.
        """
        fitting = next((each for each in self._free if each.byte_count >= byte_count), None)
        if fitting:
            self._free.remove(fitting)
            return fitting
        if self._free:  # grow: as many regions as batches at once, not as many as sizes
            await self.drop(self._free.pop())
        region = Region(-(-byte_count // _PAGE) * _PAGE)
        try:
            await self._client.register_system_shared_memory(
                region.name, f"/{region.name}", region.byte_count, client_timeout=_SECONDS
            )
        except BaseException:
            region.unlink()
            raise
        self._regions.add(region)
        return region

    def free(self, region: Region) -> None:
        """Return a region to the free ones; nobody reads or writes it any more."""
        if region in self._regions:
            self._free.append(region)

    async def drop(self, region: Region) -> None:
        """Remove a region that the server may still write to; its memory is freed when the server is done."""
        self._regions.discard(region)
        region.unlink()
        await self._unregister(region.name)

    async def close(self) -> None:
        """Remove all regions, here and at the server."""
        regions = tuple(self._regions)
        self.forget()
        for region in regions:
            await self._unregister(region.name)

    def forget(self) -> None:
        """Remove the files of all regions: the server is gone, or has forgotten them."""
        for region in self._regions:
            region.unlink()
        self._regions.clear()
        self._free.clear()

    async def _unregister(self, name: str) -> None:
        with suppress(InferenceServerException):  # it is gone, or never knew it
            await self._client.unregister_system_shared_memory(name, client_timeout=_SECONDS)


def _abandoned() -> Iterator[str]:
    """Yield the files of regions whose process has ended."""
    for path in FOLDER.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody else's
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            finally:
                os.close(file)
            yield path.name
