"""Before a graph is ready: compare it with the stored vectors, run the sizes in use, learn what they cost."""

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stylewire.manifest import ManifestError
from stylewire.server.backends import OUTPUTS, Arrays, Backend, graph_kind
from stylewire.server.machine import resident_bytes

log = logging.getLogger(__name__)

CHECK_TOLERANCE = 2e-4
"""Largest difference in the self-check, relative to the range of the stored output."""
FAST_PSNR_DB, FAST_LEVELS = 50.0, 3
"""What arithmetic other than float32 has to keep: error against range, and the largest difference of pixels."""
Runs: TypeAlias = list[tuple[int, float]]
"""Rows and seconds of batches that ran."""


_LONG_SECONDS = 0.1
"""A first run of a size that takes longer is as good as a second one: what it allocates takes little of it."""


class SizeLimits(NamedTuple):
    """What bounds a batch: its rows, its run time, and the bytes that the batches of all slots take."""

    rows: int
    seconds: float
    byte_count: int


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What warming up showed.

    Attributes:
        max_batch_size: rows of the largest batch that ran; larger ones take too long or too much memory.
        runs: batches that ran in one slot.
        wide_runs: batches that had the whole device.
    """

    max_batch_size: int
    runs: Runs = field(default_factory=list)
    wide_runs: Runs = field(default_factory=list)


def read_vectors(path: Path) -> Arrays:
    """Read the self-check vectors of a model directory: ``<graph>.in.<input>`` and ``<graph>.out.<output>``."""
    with np.load(path, allow_pickle=False) as vectors:
        return {name: vectors[name] for name in vectors.files}


def check(name: str, graph: str, backend: Backend, vectors: Arrays) -> None:
    """Compare the outputs of a graph with those that the export stored.

    Raises:
        ManifestError: they differ, or there are none.
    """
    inputs, expected = _side(vectors, graph, "in"), _side(vectors, graph, "out")
    if not inputs or not expected:
        raise ManifestError(f"check.npz has no vectors for {name}; export the model anew")
    _compare(name, inputs, expected, backend, wide=backend.wide)
    if backend.wide:  # the same graph with fewer threads: one row tells, and is a fraction of the time
        first = {key: array[:1] for key, array in inputs.items()}
        _compare(name, first, {key: array[:1] for key, array in expected.items()}, backend, wide=False)


def _compare(name: str, inputs: Arrays, expected: Arrays, backend: Backend, *, wide: bool) -> None:
    outputs = backend.run(inputs, tuple(expected), wide=wide)
    for output, array in expected.items():
        difference = np.abs(outputs[output].astype(np.float64) - array)
        found, limit = _judge(difference, array, parity=backend.precision == "fp32")
        if not found <= limit:  # NaN must not pass
            raise ManifestError(f"{name}: {output} differs from the export by {found:.3g}, limit {limit:.3g}")


def _judge(difference: NDArray[np.float64], expected: NDArray[Any], *, parity: bool) -> tuple[float, float]:
    """Give the error that counts, and its limit."""
    if expected.dtype == np.uint8:
        return float(difference.max()), 1 if parity else FAST_LEVELS
    spread = float(np.ptp(expected))
    if parity:
        return float(difference.max()), CHECK_TOLERANCE * spread
    return float(np.sqrt(np.mean(difference**2))), spread * 10 ** (-FAST_PSNR_DB / 20)


def warm_up(name: str, graph: str, backend: Backend, vectors: Arrays, limits: SizeLimits) -> WarmUp:
    """Run batches of 1, 2, 4 ... rows, as long as memory and time last.

    Args:
        name: for the log, such as ``avatars.synthesis``.
        graph: such as ``synthesis``.
        backend: runs it.
        vectors: gives rows to run.
        limits: of a batch.
    """
    most = limits.rows
    outputs = OUTPUTS[graph_kind(graph)][:1]
    before = resident_bytes()
    learned, fitting = WarmUp(most), 0
    for size in sorted({min(2**k, most) for k in range(most.bit_length() + 1)}):
        rows = repeat_rows(vectors, graph, size)
        try:
            seconds = _time(backend, rows, outputs, wide=False)
            wide_seconds = _time(backend, rows, outputs, wide=True) if backend.wide else 0.0
        except Exception as err:
            if not fitting:
                raise
            log.warning("%s: %d rows at once fail, so the largest batch has %d: %s", name, size, fitting, err)
            return replace(learned, max_batch_size=fitting)
        learned.runs.append((size, seconds))
        if backend.wide:
            learned.wide_runs.append((size, wide_seconds))
        fitting = size
        # Runtimes keep the memory of a batch, so what is resident now tells what it takes.
        row_bytes = (resident_bytes() - before) / size
        if size < most and backend.device == "cpu" and 2 * size * row_bytes * backend.slots > limits.byte_count:
            log.warning("%s: a row takes %.0f MB, so the largest batch has %d rows", name, row_bytes / 1e6, size)
            return replace(learned, max_batch_size=size)
        if size < most and 2 * seconds > limits.seconds:
            log.info("%s: %d rows take %.0f ms, and larger batches would take too long", name, size, seconds * 1e3)
            return replace(learned, max_batch_size=size)
    return learned


def repeat_rows(vectors: Arrays, graph: str, size: int) -> Arrays:
    """Make a batch of the stored inputs of a graph, with the noise that most requests have: none is drawn."""
    inputs = _side(vectors, graph, "in")
    if "noise" in inputs:
        inputs["noise"] = np.zeros((1, 1), np.float32)
    return {key: np.resize(array, (size, *array.shape[1:])) for key, array in inputs.items()}


def _time(backend: Backend, rows: Arrays, outputs: tuple[str, ...], *, wide: bool) -> float:
    for _ in range(2):  # the first run of a size allocates
        started = time.monotonic()
        backend.run(rows, outputs, wide=wide)
        seconds = time.monotonic() - started
        if seconds > _LONG_SECONDS and backend.device == "cpu":  # a GPU also searches for the fastest kernels
            break
    return seconds


def _side(vectors: Arrays, graph: str, side: str) -> dict[str, NDArray[Any]]:
    start = f"{graph}.{side}."
    return {name.removeprefix(start): array for name, array in vectors.items() if name.startswith(start)}
