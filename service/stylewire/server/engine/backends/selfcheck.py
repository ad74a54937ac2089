"""Compares a graph with the inputs and outputs that the export stored beside it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylewire.manifest import ManifestError
from stylewire.server.engine.backends import Backend
from stylewire.server.engine_api.graphs import Arrays

CHECK_TOLERANCE = 2e-4
"""Largest difference in the self-check, relative to the range of the stored output."""
FAST_PSNR_DB, FAST_LEVELS = 50.0, 3
"""What arithmetic other than float32 has to keep: error against range, and the largest difference of pixels."""


def read_vectors(path: Path) -> Arrays:
    """Load the self-check vectors of a model directory: ``<graph>.in.<input>`` and ``<graph>.out.<output>``."""
    with np.load(path, allow_pickle=False) as vectors:
        return {name: vectors[name] for name in vectors.files}


def side(vectors: Arrays, graph: str, which: str) -> dict[str, NDArray[Any]]:
    """Return the inputs (``in``) or the outputs (``out``) of one graph, by their names."""
    start = f"{graph}.{which}."
    return {name.removeprefix(start): array for name, array in vectors.items() if name.startswith(start)}


def check(name: str, graph: str, backend: Backend, vectors: Arrays) -> None:
    """Compare the outputs of a graph with those that the export stored.

    Raises:
        ManifestError: they differ, or there are none.
    """
    inputs, expected = side(vectors, graph, "in"), side(vectors, graph, "out")
    if not inputs or not expected:
        raise ManifestError(f"check.npz has no vectors for {name}; export the model anew")
    _run(name, inputs, expected, backend, exclusive=backend.exclusive)
    if backend.exclusive:  # the same graph with fewer threads: one row shows it, and is a fraction of the time
        first = {key: array[:1] for key, array in inputs.items()}
        _run(name, first, {key: array[:1] for key, array in expected.items()}, backend, exclusive=False)


def compare(name: str, expected: Arrays, outputs: Arrays, *, parity: bool) -> None:
    """Compare outputs of a graph with those expected.

    Raises:
        ManifestError: an output is farther off than the arithmetic excuses.
    """
    for output, array in expected.items():
        difference = np.abs(outputs[output].astype(np.float64) - array)
        found, limit = _judge(difference, array, parity=parity)
        if not found <= limit:  # NaN must not pass
            raise ManifestError(f"{name}: {output} differs from the export by {found:.3g}, limit {limit:.3g}")


def _run(name: str, inputs: Arrays, expected: Arrays, backend: Backend, *, exclusive: bool) -> None:
    outputs = backend.run(inputs, tuple(expected), exclusive=exclusive)
    compare(name, expected, outputs, parity=backend.precision == "fp32")


def _judge(difference: NDArray[np.float64], expected: NDArray[Any], *, parity: bool) -> tuple[float, float]:
    """Return the error that counts, and its limit: levels of uint8, else in units of the output."""
    if expected.dtype == np.uint8:
        return float(difference.max()), 1 if parity else FAST_LEVELS
    spread = float(np.ptp(expected))
    if parity:
        return float(difference.max()), CHECK_TOLERANCE * spread
    return float(np.sqrt(np.mean(difference**2))), spread * 10 ** (-FAST_PSNR_DB / 20)
