"""Which backend runs a graph: the pinned one, or the fastest here, measured at the first load and remembered."""

import hashlib
import importlib.metadata
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

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
_SECONDS = 0.2
"""How long a candidate is measured; runs that take longer are measured once."""
_LONG_SECONDS = 0.1
"""Rows that take longer gain nothing from batches on a CPU, so they are measured one by one."""
_ROWS = 4


class Choice(NamedTuple):
    """A backend, and the precision that it is told."""

    backend: str
    asked: Precision


@dataclass(frozen=True, slots=True)
class Trial:
    """How a backend did with a graph.

    Attributes:
        backend: its name.
        asked: the precision that it was told.
        precision: the arithmetic that it really ran in; empty if it could not be opened.
        rows_per_second: with all of its instances busy; 0 if it was not measured.
        problem: why it is out; empty if it is not.
    """

    backend: str
    asked: Precision
    precision: str = ""
    rows_per_second: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        """Write it for the log."""
        return f"{self.backend} {self.precision or self.asked} {self.problem or f'{self.rows_per_second:.3g} rows/s'}"


class Opened(NamedTuple):
    """A graph that is open and gives the stored outputs, and the trials that led to its backend, if there were any."""

    backend: Backend
    trials: tuple[Trial, ...] = ()


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


class Chooser:
    """Opens graphs with the backend that was named, or with the fastest of those that give the stored outputs.

    Args:
        backend: its name, or ``auto``.
        options: the settings that concern backends.
        memory: file that remembers choices by machine, graph, settings and versions; None to forget.
    """

    def __init__(self, backend: str, options: BackendOptions, memory: Path | None) -> None:
        self._backend, self._options, self._memory = backend, options, memory
        self._versions = {name: version for name, packages in _PACKAGES.items() if (version := _version(packages))}

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
        trials = _recall(self._memory, key)
        if best := fastest(trials):
            try:
                backend = self._open(Choice(best.backend, best.asked), source)
            except Exception as err:  # noqa: BLE001 - whatever it is, the others are there
                log.warning("%s: %s was the fastest here and fails now: %s", source.name, best, err)
            else:
                log.info("%s: %s, as measured before", source.name, best)
                return Opened(backend, trials)
        opened = self._compare(candidates, source)
        _remember(self._memory, key, opened.trials)
        return opened

    def _candidates(self, source: GraphFiles) -> list[Choice]:
        asked = self._options.precision
        if graph_kind(source.graph) == "mapping" and self._backend in (AUTO, "ncnn"):
            return [Choice("onnxruntime", asked)]  # a mapping network takes no time, and has no file for ncnn
        if self._backend != AUTO:
            return [Choice(self._backend, asked)]
        names = ON_CPU if self._options.device == "cpu" else ON_GPU
        found = [name for name in names if name in self._versions and _file(name, self._options, source)]
        choices = [Choice(name, asked) for name in found]
        if asked == "fast" and self._options.device == "cpu":  # where bf16 is too far off, float32 may still be best
            choices = [Choice(name, "parity") for name in found] + [
                Choice(name, asked) for name in found if name == _BF16
            ]
        return choices

    def _compare(self, candidates: list[Choice], source: GraphFiles) -> Opened:
        """Try one after the other and keep the fastest open; the others free their memory at once."""
        best: Backend | None = None
        best_speed, trials = 0.0, list[Trial]()
        for candidate in candidates:
            try:
                backend = self._open(candidate, source)
            except Exception as err:  # noqa: BLE001 - the errors of runtimes have no class in common
                log.warning("%s: %s (%s) is out: %s", source.name, *candidate, err)
                trials.append(Trial(*candidate, problem=str(err)))
                continue
            speed = _speed(backend, source)
            trials.append(Trial(*candidate, precision=backend.precision, rows_per_second=speed))
            worse = backend
            if speed > best_speed:
                best, best_speed, worse = backend, speed, best
            if worse:
                worse.close()
        if best is None:
            raise BackendUnavailableError(f"no backend can run {source.name}: {'; '.join(map(str, trials))}")
        log.info("%s: %s is the fastest here: %s", source.name, best.name, "; ".join(map(str, trials)))
        return Opened(best, tuple(trials))

    def _open(self, choice: Choice, source: GraphFiles) -> Backend:
        options = replace(self._options, precision=choice.asked)
        file = _file(choice.backend, options, source)
        if file is None:
            raise BackendUnavailableError(
                f"{source.directory} has no {source.graph} for {choice.backend}: export the model with more --formats"
            )
        if choice.backend != TRITON:
            source.manifest.verify_files(source.directory, {file, file.replace(".param", ".bin")})
        backend = open_backend(choice.backend, source.directory / file, options)
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


def default_memory() -> Path:
    """Where choices are remembered, by the rules of freedesktop.org."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stylewire" / "backends.json"


def fastest(trials: Iterable[Trial]) -> Trial | None:
    """Find the trial that was chosen."""
    return max((trial for trial in trials if not trial.problem), key=lambda trial: trial.rows_per_second, default=None)


def _file(backend: str, options: BackendOptions, source: GraphFiles) -> str | None:
    return graph_file(backend, source.graph, options, source.manifest.files)


def _speed(backend: Backend, source: GraphFiles) -> float:
    """Rows a second with all instances busy."""
    outputs = OUTPUTS[graph_kind(source.graph)][:1]
    started = time.monotonic()
    backend.run(repeat_rows(source.vectors, source.graph, 1), outputs)
    long = backend.device == "cpu" and time.monotonic() - started > _LONG_SECONDS
    row_count = 1 if long else _ROWS
    rows = repeat_rows(source.vectors, source.graph, row_count)

    def run(_: int) -> float:
        done, started = 0, time.monotonic()
        while done == 0 or time.monotonic() - started < _SECONDS:
            backend.run(rows, outputs)
            done += row_count
        return done / (time.monotonic() - started)

    with ThreadPoolExecutor(backend.instances) as pool:
        if row_count > 1:  # the first run of a size allocates
            list(pool.map(lambda _: backend.run(rows, outputs), range(backend.instances)))
        return sum(pool.map(run, range(backend.instances)))


def _version(packages: tuple[str, ...]) -> str | None:
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _recall(memory: Path | None, key: str) -> tuple[Trial, ...]:
    try:
        return tuple(Trial(**trial) for trial in _read(memory)[key])
    except (KeyError, TypeError):  # not measured yet, or another version's
        return ()


def _read(memory: Path | None) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8")) if memory else {}
    except (OSError, ValueError):  # not there yet, or damaged: measured again
        return {}
    return known if isinstance(known, dict) else {}


def _remember(memory: Path | None, key: str, trials: tuple[Trial, ...]) -> None:
    if memory is None:
        return
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=memory.parent, delete=False) as file:
            json.dump({**_read(memory), key: [asdict(trial) for trial in trials]}, file)
        Path(file.name).replace(memory)  # at once: several servers may start together
    except OSError as err:  # a file system that cannot be written to, as in many containers
        log.info("the choice of a backend is not remembered: %s", err)
