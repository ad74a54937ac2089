"""The models of a server: loading, self-check, warm-up, and finding them by name."""

import asyncio
import logging
import time
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TypeAlias

import numpy as np

from stylewire.errors import ModelNotFoundError, ModelNotReadyError, UnsupportedError
from stylewire.latents import Array
from stylewire.manifest import CHECK_FILE, W_MEAN_FILE, EncoderInfo, Manifest, ManifestError
from stylewire.provenance import Packets
from stylewire.server import inline
from stylewire.server.backends import BackendOptions, graph_kind, graph_suffix
from stylewire.server.batcher import Batcher
from stylewire.server.choice import Chooser, GraphFiles, Opened, default_memory
from stylewire.server.inline import Inline
from stylewire.server.machine import free_bytes, resident_bytes, trim_memory
from stylewire.server.metrics import GraphMetrics, Metrics
from stylewire.server.scheduler import BatchLimits
from stylewire.server.settings import Settings
from stylewire.server.warmup import SizeLimits, WarmUp, read_vectors, warm_up

Runner: TypeAlias = Batcher | Inline
"""What runs a graph."""

log = logging.getLogger(__name__)

_LARGE_PX, _FEW_THREADS = 1024, 4
"""A picture of 1024 px takes up to 2.2 GB while it is drawn."""


class State(Enum):
    """Whether a model answers."""

    LOADING = "loading"
    READY = "ready"
    CLOSED = "closed"


class Model:
    """A model directory that is served.

    Attributes:
        manifest: what the directory says of itself.
        digest: of all its files.
        packets: what the files of its pictures say about their origin.
        backend: what really runs its graphs; known once it is loaded.
        device: where they really run.
        precision: the arithmetic they really run in.
        resident_bytes: memory that the process has since the model is loaded and warm, and had not before.
    """

    def __init__(self, directory: Path, settings: Settings, metrics: Metrics) -> None:
        self.manifest = Manifest.read(directory)
        self.digest = self.manifest.digest()
        self.packets = Packets(self.manifest.name, self.digest)
        self.state = State.LOADING
        self.backend: str = settings.backend
        self.device: str = settings.device
        self.precision: str = self.manifest.precision
        self.graphs: tuple[str, ...] = self.manifest.graphs(graph_suffix(settings.backend))
        self._directory, self._settings, self._metrics = directory, settings, metrics
        self._options = BackendOptions(
            device=settings.device,
            threads=settings.threads,
            instances=settings.instances or self._usual_instances(),
            precision=settings.precision,
        )
        self._chooser = Chooser(settings.backend, self._options, default_memory())
        self.resident_bytes = 0
        self._opened: dict[str, Opened] = {}
        self._runners: dict[str, Runner] = {}
        self._w_mean: Array | None = None
        if not self.graphs:
            raise ManifestError(f"{directory} has no graphs for the backend {settings.backend}; export with --formats")

    def _usual_instances(self) -> int:
        """Give 1 where a run takes gigabytes and the cores are few, so that a second one would gain next to nothing."""
        large = self.manifest.resolution_px >= _LARGE_PX and self._settings.device == "cpu"
        return 1 if large and self._settings.threads <= _FEW_THREADS else 0

    @property
    def name(self) -> str:
        """The name that requests use."""
        return self.manifest.name

    @property
    def styled(self) -> bool:
        """Whether it has codes; a generator without styles goes from z to the picture in one graph."""
        return "generator" not in self.graphs

    @property
    def picture_graph(self) -> str:
        """The graph that makes pictures."""
        return "synthesis" if self.styled else "generator"

    @property
    def w_mean(self) -> Array:
        """float32[D], the center of truncation."""
        if self._w_mean is None:
            raise UnsupportedError(f"model {self.name!r} has no mean code, so it cannot truncate; leave it out")
        return self._w_mean

    def runner(self, graph: str) -> Runner:
        """Find what runs a graph.

        Raises:
            UnsupportedError: the model has no such graph.
            ModelNotReadyError: it is not loaded.
        """
        if graph not in self.graphs:
            raise UnsupportedError(f"model {self.name!r} has no {graph} network; it has {', '.join(self.graphs)}")
        if self.state is not State.READY:
            raise ModelNotReadyError(f"model {self.name!r} is {self.state.value}; retry", retry_after_seconds=1.0)
        return self._runners[graph]

    def encoder(self, name: str) -> EncoderInfo:
        """Find an encoder by its name; an empty name is the only one or the one called ``encoder``.

        Raises:
            UnsupportedError: the model has no encoder at all.
            ModelNotFoundError: it has no encoder of this name.
        """
        encoders = {e.graph: e for e in self.manifest.encoders if e.graph in self.graphs}
        if not encoders:
            raise UnsupportedError(f"model {self.name!r} has no encoder, so it cannot take pictures")
        if not name and len(encoders) == 1:
            return next(iter(encoders.values()))
        found = encoders.get(name or "encoder")
        if found is None:
            known = ", ".join(encoders)
            raise ModelNotFoundError(
                f"model {self.name!r} has no encoder {name[:80]!r}; it has {known}",
                resource=("stylewire.Encoder", name[:80]),
            )
        return found

    def backlog_seconds(self, graph: str) -> float:
        """Predict how long a graph is busy with what waits."""
        return self._runners[graph].backlog_seconds() if graph in self._runners else 0.0

    def waiting_rows(self, graph: str) -> int:
        """Count the rows that wait for a graph."""
        return self._runners[graph].waiting_rows() if graph in self._runners else 0

    def hung_graphs(self, hang_seconds: float) -> list[str]:
        """Name the graphs with a batch that has been running for longer than that."""
        return [graph for graph, runner in self._runners.items() if runner.check_hang(hang_seconds)]

    def runtimes(self) -> dict[str, Opened]:
        """Say what runs each graph that is loaded, and what else was tried."""
        return dict(self._opened)

    async def load(self) -> None:
        """Verify the files, open the graphs, compare them with the stored vectors, run every batch size once.

        Raises:
            ManifestError: a file differs from the manifest, or a graph does not give the stored outputs.
            BackendUnavailableError: the backend or the device cannot be used here.
        """
        trim_memory()  # what others freed is not to be counted against this model
        started, before = time.monotonic(), resident_bytes()
        learned = await asyncio.to_thread(self._open)
        for graph, warm in learned.items():
            self._runners[graph] = self._runner(graph, warm)
        backend = self._opened[self.picture_graph].backend
        self.backend, self.device, self.precision = backend.name, backend.device, backend.precision
        self._metrics.model.labels(self.name, self.digest, self.backend, self.device, self.precision).set(1)
        self.resident_bytes = max(0, resident_bytes() - before)
        self._metrics.resident.labels(self.name).set(self.resident_bytes)
        self.state = State.READY
        seconds, megabytes = time.monotonic() - started, self.resident_bytes / 1e6
        log.info("model %s ready in %.2f s, %.0f MB: %s", self.name, seconds, megabytes, ", ".join(self.graphs))

    async def close(self) -> None:
        """Finish what waits and free the graphs."""
        self.state = State.CLOSED
        for runner in self._runners.values():
            await runner.close()
        for opened in self._opened.values():
            opened.backend.close()

    def _open(self) -> dict[str, WarmUp]:
        self.manifest.verify_files(self._directory, {CHECK_FILE, W_MEAN_FILE})  # graphs follow when they are opened
        settings = self._settings
        byte_count = settings.max_batch_bytes or free_bytes() // 2
        limits = SizeLimits(settings.max_batch_size, settings.max_batch_seconds, byte_count)
        vectors = read_vectors(self._directory / CHECK_FILE)
        learned = {}
        for graph in self.graphs:
            name = f"{self.name}.{graph}"
            source = GraphFiles(name, graph, self._directory, self.manifest, vectors)
            self._opened[graph] = self._chooser.open(source)
            backend = self._opened[graph].backend
            self._metrics.graph.labels(self.name, graph, backend.name, backend.device, backend.precision).set(1)
            trim_memory()  # before the warm-up, which allocates what it will use again
            learned[graph] = warm_up(name, graph, backend, vectors, limits)
        mean = self._directory / W_MEAN_FILE
        self._w_mean = np.load(mean, allow_pickle=False) if mean.exists() else None
        return learned

    def _runner(self, graph: str, warm: WarmUp) -> Runner:
        """Make what runs a graph: on the event loop if it is tiny, else in threads."""
        name, backend = f"{self.name}.{graph}", self._opened[graph].backend
        observer = GraphMetrics(self._metrics, self.name, graph)
        longest = max(seconds for _, seconds in warm.runs)
        if graph_kind(graph) == "mapping" and backend.device == "cpu" and longest < inline.MAX_SECONDS:
            return Inline(name=name, run=backend.run, observer=observer, max_batch_size=warm.max_batch_size)
        limits = BatchLimits(
            max_batch_size=warm.max_batch_size,
            max_batch_seconds=self._settings.max_batch_seconds,
            max_queue_seconds=self._settings.max_queue_seconds,
            slots=backend.slots,
            wide=backend.wide,
            yields=self._settings.threads > 1,
        )
        batcher = Batcher(name=name, run=backend.run, observer=observer, limits=limits)
        for size, seconds in warm.runs:
            batcher.scheduler.costs.learn(size, seconds)
        for size, seconds in warm.wide_runs:
            batcher.scheduler.wide_costs.learn(size, seconds)
        return batcher


class Registry:
    """All models of a server.

    Args:
        models: in any order; at least one.
        default: name of the model for requests that name none; empty for the only one or the first by name.
    """

    def __init__(self, models: Iterable[Model], default: str = "") -> None:
        self.models = {model.name: model for model in sorted(models, key=lambda model: model.name)}
        self.default = default or next(iter(self.models))
        if self.default not in self.models:
            raise ManifestError(f"--default-model {default!r} is not among the models {', '.join(self.models)}")

    @classmethod
    def open(cls, directory: Path, settings: Settings, metrics: Metrics) -> "Registry":
        """Find the model directories in a folder; a folder that is one itself counts as one.

        Raises:
            ManifestError: there is none, or a manifest is wrong.
        """
        found = sorted(path.parent for path in (*directory.glob("model.json"), *directory.glob("*/model.json")))
        if not found:
            raise ManifestError(f"{directory} holds no model directory; make one with stylewire-export model")
        models = [Model(path, settings, metrics) for path in found]
        names = [model.name for model in models]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ManifestError(f"{directory} holds two models named {', '.join(sorted(twice))}; rename one")
        return cls(models, settings.default_model)

    def get(self, name: str) -> Model:
        """Find a model; an empty name is the default.

        Raises:
            ModelNotFoundError: there is none of this name.
        """
        model = self.models.get(name or self.default)
        if model is None:
            raise ModelNotFoundError(
                f"no model {name[:80]!r}; this server has {', '.join(self.models)}",
                resource=("stylewire.Model", name[:80]),
            )
        return model

    @property
    def ready(self) -> bool:
        """Whether all models answer."""
        return all(model.state is State.READY for model in self.models.values())

    def hung_graphs(self, hang_seconds: float) -> list[str]:
        """Name the graphs of all models with a batch that has been running for longer than that."""
        return [f"{model.name}.{graph}" for model in self.models.values() for graph in model.hung_graphs(hang_seconds)]

    async def load(self) -> None:
        """Load all models, one after the other: they share the cores."""
        for model in self.models.values():
            await model.load()

    async def close(self) -> None:
        """Close all models."""
        await asyncio.gather(*(model.close() for model in self.models.values()))
