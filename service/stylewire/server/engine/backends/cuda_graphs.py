"""Shared by the backends for NVIDIA GPUs: batch sizes, and the lock of the GPU while a CUDA graph is captured.

A CUDA graph is all kernels of a run, recorded once and started together. It reads and writes the same memory every
time, so there is one for each batch size.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SIZES = (32, 16, 8, 4, 2, 1)
"""Batch sizes that have a CUDA graph."""


class Part(NamedTuple):
    """Rows ``start`` up to ``stop`` of a batch, which run as ``size`` rows."""

    start: int
    stop: int
    size: int


def split_batch(row_count: int) -> list[Part]:
    """Split a batch into parts of sizes that have a graph.

    A part is filled up where that adds at most a third to its rows; otherwise the largest size that is full runs first.
    """
    parts, start = [], 0
    while start < row_count:
        left = row_count - start
        above = min((size for size in SIZES if size >= left), default=None)
        full = max((size for size in SIZES if size <= left), default=1)
        size = above if above is not None and 3 * (above - left) <= left else full
        parts.append(Part(start, min(start + size, row_count), size))
        start = parts[-1].stop
    return parts


def fill_rows(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Repeat the last row of [N, ...] up to [size, ...], in contiguous memory."""
    if len(array) == size:
        return np.ascontiguousarray(array)
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def join_rows(parts: list[list[NDArray[Any]]]) -> list[NDArray[Any]]:
    """Concatenate the outputs of several parts along axis 0, output by output."""
    return parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]


def precision_of(path: Path) -> str:
    """Return the precision of a file: ``synthesis.fp16.onnx`` -> ``fp16``, without this mark ``fp32``."""
    return "fp16" if ".fp16" in path.suffixes else "fp32"


def device_index(device: str) -> int:
    """Return the index of a GPU: ``cuda`` and ``cuda:0`` -> 0."""
    return int(device.partition(":")[2] or 0)


class CaptureLock:
    """Lets many threads use GPUs, or one thread capture a CUDA graph.

    While onnxruntime captures, CUDA fails in every thread that allocates or waits, and the capture fails with it: it
    uses ``cudaStreamCaptureModeGlobal``.

    Attributes:
        user_count: threads that use a GPU.
        capturing: whether one captures, or waits for those to end.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.user_count = 0
        self.capturing = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Use a GPU beside others."""
        with self._changed:
            self._changed.wait_for(lambda: not self.capturing)
            self.user_count += 1
        try:
            yield
        finally:
            with self._changed:
                self.user_count -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until nobody uses a GPU, and keep all others waiting."""
        with self._changed:
            self._changed.wait_for(lambda: not self.capturing)
            self.capturing = True  # new users wait, so the others get fewer
            self._changed.wait_for(lambda: not self.user_count)
        try:
            yield
        finally:
            with self._changed:
                self.capturing = False
                self._changed.notify_all()


CAPTURE_LOCK = CaptureLock()
"""Of this process."""
