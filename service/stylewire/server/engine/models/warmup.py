"""Runs a graph before it is ready: the batch sizes in use, to allocate and to learn what they cost."""

import logging
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import NamedTuple, TypeAlias

import numpy as np

from stylewire.server.engine.backends import OUTPUTS, Backend
from stylewire.server.engine.backends.selfcheck import side
from stylewire.server.engine_api.graphs import Arrays, graph_kind
from stylewire.server.host import resident_bytes

log = logging.getLogger(__name__)

Runs: TypeAlias = list[tuple[int, float]]
"""Rows and seconds of batches that ran."""


_LONG_SECONDS = 0.1
"""A first run of a size that takes longer is as good as a second one: what it allocates takes little of it."""


class SizeLimits(NamedTuple):
    """What bounds a batch: its rows, its run time, and the bytes that the batches of all instances take."""

    rows: int
    seconds: float
    byte_count: int


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What was learned from warming up.

    Attributes:
        max_batch_size: rows of the largest batch that ran; larger ones take too long or too much memory.
        runs: batches that ran in one instance.
        exclusive_runs: batches that had the whole device.
    """

    max_batch_size: int
    runs: Runs = field(default_factory=list)
    exclusive_runs: Runs = field(default_factory=list)


def warm_up(name: str, graph: str, backend: Backend, vectors: Arrays, limits: SizeLimits) -> WarmUp:
    """Run batches of 1, 2, 4 ... rows, as long as memory and time last.

    Args:
        name: for the log, such as ``avatars.synthesis``.
        graph: such as ``synthesis``.
        backend: runs it.
        vectors: arrays [N, ...] of ``check.npz``, whose rows are run.
        limits: of a batch.
    """
    most = limits.rows
    outputs = OUTPUTS[graph_kind(graph)][:1]
    before = resident_bytes()
    learned, fitting = WarmUp(most), 0
    for size in sorted({min(2**k, most) for k in range(most.bit_length() + 1)}):
        rows = repeat_rows(vectors, graph, size)
        try:
            seconds = _time(backend, rows, outputs, exclusive=False)
            exclusive_seconds = _time(backend, rows, outputs, exclusive=True) if backend.exclusive else 0.0
        except Exception as err:
            if not fitting:
                raise
            log.warning("%s: %d rows at once fail, so the largest batch has %d: %s", name, size, fitting, err)
            return replace(learned, max_batch_size=fitting)
        learned.runs.append((size, seconds))
        if backend.exclusive:
            learned.exclusive_runs.append((size, exclusive_seconds))
        fitting = size
        # Runtimes keep the memory of a batch, so what is resident now shows what it takes.
        row_bytes = (resident_bytes() - before) / size
        if size < most and _exceeds_memory(backend, 2 * size * row_bytes, limits):
            log.warning("%s: a row takes %.0f MB, so the largest batch has %d rows", name, row_bytes / 1e6, size)
            return replace(learned, max_batch_size=size)
        if size < most and 2 * seconds > limits.seconds:
            log.info("%s: %d rows take %.0f ms, and larger batches would take too long", name, size, seconds * 1e3)
            return replace(learned, max_batch_size=size)
    return learned


def _exceeds_memory(backend: Backend, batch_bytes: float, limits: SizeLimits) -> bool:
    return backend.device == "cpu" and batch_bytes * backend.instances > limits.byte_count


def repeat_rows(vectors: Arrays, graph: str, size: int) -> Arrays:
    """Make a batch [size, ...] of the stored inputs of a graph, with the noise that most requests have: none."""
    inputs = side(vectors, graph, "in")
    if "noise" in inputs:
        inputs["noise"] = np.zeros((1, 1), np.float32)
    return {key: np.resize(array, (size, *array.shape[1:])) for key, array in inputs.items()}


def _time(backend: Backend, rows: Arrays, outputs: tuple[str, ...], *, exclusive: bool) -> float:
    for _ in range(2):  # the first run of a size allocates
        started = monotonic()
        backend.run(rows, outputs, exclusive=exclusive)
        seconds = monotonic() - started
        if seconds > _LONG_SECONDS and backend.device == "cpu":  # a GPU also searches for the fastest kernels
            break
    return seconds
