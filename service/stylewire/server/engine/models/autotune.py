"""Which backend runs a graph: the pinned one, or the fastest here, measured at the first load and cached."""

import hashlib
import importlib.metadata
import json
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from stylewire.errors import BackendUnavailableError
from stylewire.manifest import Manifest
from stylewire.server.config.schema import Precision
from stylewire.server.engine.backends import (
    AUTO,
    OUTPUTS,
    TRITON,
    Backend,
    BackendOptions,
    graph_file,
    open_backend,
)
from stylewire.server.engine.backends.selfcheck import check
from stylewire.server.engine.models.measurements import (
    Measurement,
    fastest,
    load_measurements,
    store_measurements,
)
from stylewire.server.engine.models.warmup import repeat_rows
from stylewire.server.engine_api.graphs import Arrays, graph_kind
from stylewire.server.host import processor

log = logging.getLogger(__name__)

_PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "ncnn": ("ncnn",),
    "torchscript": ("torch",),
}
"""Backend -> the packages that may have it."""
ON_CPU, ON_GPU = ("ncnn", "openvino", "onnxruntime"), ("onnxruntime", "torchscript")
"""What is compared. TorchScript was never the fastest on a CPU, and loads for seconds."""
_BF16 = "openvino"
"""The backend that has another arithmetic for the same file; the others need a file in half precision."""
MEASURE_SECONDS = 0.2
"""How long a candidate is measured; runs that take longer are measured once."""
_LONG_SECONDS = 0.1
"""Rows that take longer gain nothing from batches on a CPU, so they are measured one by one."""
_ROWS = 4


class Candidate(NamedTuple):
    """A backend, and the precision that it is opened with."""

    backend: str
    asked: Precision


class Opened(NamedTuple):
    """A graph that is open and returns the stored outputs, and the measurements of its candidates, if there are any."""

    backend: Backend
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True)
class GraphFiles:
    """A graph of a model directory.

    Attributes:
        name: for the log, such as ``avatars.synthesis``.
        graph: such as ``synthesis``.
        directory: of the model.
        manifest: of the directory.
        vectors: the stored inputs and outputs of all graphs.
    """

    name: str
    graph: str
    directory: Path
    manifest: Manifest
    vectors: Arrays


class OpenBackend(Protocol):
    """Loads one graph file; see ``backends.open_backend``."""

    def __call__(self, name: str, path: Path, options: BackendOptions) -> Backend:
        """Load it."""
        ...


class Autotuner:
    """Opens graphs with the backend that was named, or with the fastest of those that return the stored outputs.

    Args:
        backend: its name, or ``auto``.
        options: the settings that concern backends.
        cache: file of measurements by machine, graph, settings and versions; None for none.
        opener: loads a graph file.
        versions: backend -> version of its package, of those that are installed.
    """

    def __init__(
        self,
        backend: str,
        options: BackendOptions,
        cache: Path | None,
        *,
        opener: OpenBackend = open_backend,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self._backend, self._options, self._cache = backend, options, cache
        self._opener = opener
        self._versions = dict(installed_versions() if versions is None else versions)

    def open(self, source: GraphFiles) -> Opened:
        """Open a graph and compare it with the stored outputs.

        Raises:
            BackendUnavailableError: the named backend, or every one, cannot run the graph here.
            ManifestError: the named backend does not give the stored outputs.
        """
        candidates = self._candidates(source)
        if len(candidates) == 1:
            return Opened(self._open(candidates[0], source))
        key = self._key(source)
        measurements = load_measurements(self._cache, key)
        if best := fastest(measurements):
            try:
                backend = self._open(Candidate(best.backend, best.asked), source)
            except Exception as err:  # noqa: BLE001 - whatever it is, the others are there
                log.warning("%s: %s was the fastest here and fails now: %s", source.name, best, err)
            else:
                log.info("%s: %s, as measured before", source.name, best)
                return Opened(backend, measurements)
        opened = self._compare(candidates, source)
        store_measurements(self._cache, key, opened.measurements)
        return opened

    def _candidates(self, source: GraphFiles) -> list[Candidate]:
        asked = self._options.precision
        if graph_kind(source.graph) == "mapping" and self._backend in (AUTO, "ncnn"):
            return [Candidate("onnxruntime", asked)]  # a mapping network takes no time, and has no file for ncnn
        if self._backend != AUTO:
            return [Candidate(self._backend, asked)]
        names = ON_CPU if self._options.device == "cpu" else ON_GPU
        found = [name for name in names if name in self._versions and _file(name, self._options, source)]
        candidates = [Candidate(name, asked) for name in found]
        if asked == "fast" and self._options.device == "cpu":  # where bf16 is too far off, float32 may still be best
            candidates = [Candidate(name, "parity") for name in found] + [
                Candidate(name, asked) for name in found if name == _BF16
            ]
        return candidates

    def _compare(self, candidates: list[Candidate], source: GraphFiles) -> Opened:
        """Try one after the other and keep the fastest open; the others free their memory at once."""
        best: Backend | None = None
        best_speed, measurements = 0.0, list[Measurement]()
        for candidate in candidates:
            try:
                backend = self._open(candidate, source)
            except Exception as err:  # noqa: BLE001 - the errors of runtimes have no class in common
                log.warning("%s: %s (%s) is out: %s", source.name, *candidate, err)
                measurements.append(Measurement(*candidate, problem=str(err)))
                continue
            speed = _measure_speed(backend, source)
            measurements.append(Measurement(*candidate, precision=backend.precision, rows_per_second=speed))
            worse = backend
            if speed > best_speed:
                best, best_speed, worse = backend, speed, best
            if worse:
                worse.close()
        if best is None:
            raise BackendUnavailableError(f"no backend can run {source.name}: {'; '.join(map(str, measurements))}")
        log.info("%s: %s is the fastest here: %s", source.name, best.name, "; ".join(map(str, measurements)))
        return Opened(best, tuple(measurements))

    def _open(self, candidate: Candidate, source: GraphFiles) -> Backend:
        options = replace(self._options, precision=candidate.asked)
        file = _file(candidate.backend, options, source)
        if file is None:
            raise BackendUnavailableError(
                f"{source.directory} has no {source.graph} for {candidate.backend}: "
                "export the model with more --formats"
            )
        if candidate.backend != TRITON:
            source.manifest.verify_files(source.directory, {file, file.replace(".param", ".bin")})
        backend = self._opener(candidate.backend, source.directory / file, options)
        try:
            check(source.name, source.graph, backend, source.vectors)
        except BaseException:
            backend.close()
            raise
        return backend

    def _key(self, source: GraphFiles) -> str:
        digests = {
            name: file.sha256 for name, file in source.manifest.files.items() if name.startswith(f"{source.graph}.")
        }
        known = [processor(), asdict(self._options), digests, self._versions]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _file(backend: str, options: BackendOptions, source: GraphFiles) -> str | None:
    return graph_file(backend, source.graph, options, source.manifest.files)


def _measure_speed(backend: Backend, source: GraphFiles) -> float:
    """Measure the rows a second with all instances busy."""
    outputs = OUTPUTS[graph_kind(source.graph)][:1]
    started = time.monotonic()
    backend.run(repeat_rows(source.vectors, source.graph, 1), outputs)
    long = backend.device == "cpu" and time.monotonic() - started > _LONG_SECONDS
    row_count = 1 if long else _ROWS
    rows = repeat_rows(source.vectors, source.graph, row_count)

    def run(_: int) -> float:
        done, started = 0, time.monotonic()
        while done == 0 or time.monotonic() - started < MEASURE_SECONDS:
            backend.run(rows, outputs)
            done += row_count
        return done / (time.monotonic() - started)

    with ThreadPoolExecutor(backend.instances) as pool:
        if row_count > 1:  # the first run of a size allocates
            list(pool.map(lambda _: backend.run(rows, outputs), range(backend.instances)))
        return sum(pool.map(run, range(backend.instances)))


def installed_versions() -> dict[str, str]:
    """Return backend -> version of its package, of those that are installed."""
    return {name: version for name, packages in _PACKAGES.items() if (version := _version(packages))}


def _version(packages: tuple[str, ...]) -> str | None:
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
