"""Which backend runs a graph fastest here: measured when a model is loaded, remembered for the next start."""

import hashlib
import importlib.metadata
import json
import logging
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from stylewire.errors import BackendUnavailableError
from stylewire.manifest import ManifestError
from stylewire.server.backends import OUTPUTS, Arrays, Backend, BackendOptions, Precision, graph_kind, open_backend
from stylewire.server.machine import processor
from stylewire.server.warmup import check, repeat_rows

log = logging.getLogger(__name__)

_PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "openvino": ("openvino",)}
"""Backend -> the packages that may have it. TorchScript was never the fastest on a CPU, and loads for seconds."""
_FAST = frozenset({"openvino"})
"""Backends that have an arithmetic beside float32."""
_SECONDS = 0.3
"""How long a candidate is measured; a run that takes longer is measured once."""
_ROWS = 4


class Choice(NamedTuple):
    """A backend, and the precision that it is told."""

    backend: str
    precision: Precision

    def __str__(self) -> str:
        """Write it for the log."""
        return self.backend if self.precision == "parity" else f"{self.backend} ({self.precision})"


class Chooser:
    """Finds the fastest backend for a graph, among those that are installed and give the stored outputs.

    Args:
        options: the settings that concern backends.
        memory: file that remembers choices by machine, graph, settings and versions; None to forget.
    """

    def __init__(self, options: BackendOptions, memory: Path | None) -> None:
        self._options, self._memory = options, memory
        self._versions = {name: version for name, packages in _PACKAGES.items() if (version := _version(packages))}

    def choose(self, name: str, path: Path, digest: str, vectors: Arrays) -> Choice:
        """Find the fastest backend.

        Args:
            name: for the log, such as ``avatars.synthesis``.
            path: the graph's ONNX file.
            digest: of that file.
            vectors: the stored inputs and outputs.

        Raises:
            BackendUnavailableError: none can run the graph.
        """
        candidates = self._candidates(path)
        if len(candidates) == 1:
            return candidates[0]
        key = self._key(digest)
        known = _recall(self._memory).get(key)
        for candidate in candidates:
            if str(candidate) == known:
                log.info("%s: %s, as measured before", name, known)
                return candidate
        speeds: dict[Choice, float] = {}
        for candidate in candidates:
            try:
                speeds[candidate] = self._measure(candidate, name, path, vectors)
            except (BackendUnavailableError, ManifestError) as err:
                log.warning("%s: %s is out: %s", name, candidate, err)
        if not speeds:
            raise BackendUnavailableError(f"no backend can run {name}; the log says why")
        best = max(speeds, key=lambda candidate: speeds[candidate])
        measured = ", ".join(f"{candidate} {speed:.3g} rows/s" for candidate, speed in speeds.items())
        log.info("%s: %s is the fastest here: %s", name, best, measured)
        _remember(self._memory, key, str(best))
        return best

    def _candidates(self, path: Path) -> list[Choice]:
        if self._options.device != "cpu" or graph_kind(path.stem) == "mapping":  # the mapping network takes no time
            return [Choice("onnxruntime", "parity")]
        found = [Choice(backend, "parity") for backend in self._versions]
        if self._options.precision == "fast":
            found += [Choice(backend, "fast") for backend in self._versions if backend in _FAST]
        return found

    def _measure(self, candidate: Choice, name: str, path: Path, vectors: Arrays) -> float:
        """Rows a second with all slots busy."""
        backend = open_backend(candidate.backend, path, replace(self._options, precision=candidate.precision))
        try:
            check(name, path.stem, backend, vectors)
            rows = repeat_rows(vectors, path.stem, _ROWS)
            with ThreadPoolExecutor(backend.slots) as pool:
                return sum(pool.map(lambda _: _speed(backend, rows, path.stem), range(backend.slots)))
        finally:
            backend.close()

    def _key(self, digest: str) -> str:
        known = [processor(), asdict(self._options), digest, self._versions]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def default_memory() -> Path:
    """Where choices are remembered, by the rules of freedesktop.org."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stylewire" / "backends.json"


def _speed(backend: Backend, rows: Arrays, graph: str) -> float:
    outputs, done = OUTPUTS[graph_kind(graph)][:1], 0
    backend.run(rows, outputs)  # the first run allocates
    started = time.monotonic()
    while done == 0 or time.monotonic() - started < _SECONDS:
        backend.run(rows, outputs)
        done += _ROWS
    return done / (time.monotonic() - started)


def _version(packages: tuple[str, ...]) -> str | None:
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _recall(memory: Path | None) -> dict[str, str]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8")) if memory else {}
    except (OSError, ValueError):  # not there yet, or damaged: measured again
        return {}
    return known if isinstance(known, dict) else {}


def _remember(memory: Path | None, key: str, backend: str) -> None:
    if memory is None:
        return
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=memory.parent, delete=False) as file:
            json.dump({**_recall(memory), key: backend}, file)
        Path(file.name).replace(memory)  # at once: several servers may start together
    except OSError as err:  # a file system that cannot be written to, as in many containers
        log.info("the choice of a backend is not remembered: %s", err)
