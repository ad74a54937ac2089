"""Model directory -> model: verify its files, open its graphs, compare them with the stored outputs, warm them up."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from stylewire.errors import DrainingError
from stylewire.latents import Array
from stylewire.manifest import CHECK_FILE, W_MEAN_FILE, Manifest, ManifestError
from stylewire.server.config.settings import Settings
from stylewire.server.engine.backends import (
    TRITON,
    BackendOptions,
    Remote,
    RemoteModel,
    graph_suffixes,
    most_rows,
)
from stylewire.server.engine.backends.selfcheck import read_vectors
from stylewire.server.engine.batching import inline
from stylewire.server.engine.batching.cost_model import CostModel
from stylewire.server.engine.batching.limits import BatchLimits
from stylewire.server.engine.batching.runner import GraphRunner, MakeRunner, RunnerSpec, make_runner
from stylewire.server.engine.batching.spans import BatchSpans
from stylewire.server.engine.models.autotune import Autotuner, GraphFiles, Opened
from stylewire.server.engine.models.measurements import default_cache
from stylewire.server.engine.models.model import LoadedGraph, Model, runtimes
from stylewire.server.engine.models.warmup import SizeLimits, WarmUp, warm_up
from stylewire.server.engine_api.graphs import Observer, graph_kind
from stylewire.server.engine_api.models import ModelInfo, ModelStatus, State
from stylewire.server.host import free_bytes, resident_bytes, trim_memory
from stylewire.server.telemetry.metrics import GraphMetrics, Metrics
from stylewire.server.telemetry.model_series import ModelSeries

log = logging.getLogger(__name__)

_LARGE_PX, _FEW_THREADS = 1024, 4
"""An image of 1024 px takes up to 2.2 GB while it is drawn."""


class Unloaded(NamedTuple):
    """A model directory that was read, and not loaded yet.

    Attributes:
        directory: where its files are.
        status: what it says about itself.
    """

    directory: Path
    status: ModelStatus


class Loader:
    """Loads model directories.

    Args:
        settings: how models run.
        metrics: where they are shown while they are loaded.
        remote: servers elsewhere that run their graphs; None if they run here.
        make_runner: makes what runs each graph; tests put themselves between.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, remote: Remote | None = None, make_runner: MakeRunner = make_runner
    ) -> None:
        self._settings, self._metrics, self._remote = settings, metrics, remote
        self._make_runner = make_runner

    def read(self, directory: Path, version: str) -> Unloaded:
        """Read what a directory says about itself, and nothing else of it.

        Args:
            directory: no path that may come to mean another one before it is loaded.
            version: of the model; empty where it has only one.

        Raises:
            ManifestError: its manifest cannot be used.
        """
        manifest = Manifest.read(directory)
        found = (manifest.graphs(suffix) for suffix in graph_suffixes(self._settings.backend))
        graphs = next(filter(None, found), ())
        if not graphs:
            backend = self._settings.backend
            raise ManifestError(f"{directory} has no graphs for the backend {backend}; export with --formats")
        info = ModelInfo(manifest=manifest, version=version, digest=manifest.digest(), graphs=graphs)
        settings = self._settings
        status = ModelStatus(
            info=info,
            state=State.LOADING,
            backend=settings.backend,
            device=settings.device,
            precision=manifest.precision,
        )
        return Unloaded(directory, status)

    async def load(self, unloaded: Unloaded) -> Model:
        """Load a directory. Cancelled, no further graph is opened; the one that is being opened is finished first.

        Raises:
            ManifestError: a file differs from the manifest, or a graph does not return the stored outputs.
            BackendUnavailableError: the backend or the device cannot be used here.
        """
        trim_memory()  # what others freed is not to be counted against this model
        started, before, info = time.monotonic(), resident_bytes(), unloaded.status.info
        remote = RemoteModel(self._remote, info.name, info.version) if self._remote else None
        options = backend_options(self._settings, info.manifest.resolution_px, remote)
        opening = _Opening(unloaded.directory, info, self._settings, options)
        try:
            learned = await asyncio.to_thread(opening.run)
        except asyncio.CancelledError:
            opening.abandoned.set()
            raise
        series = self._metrics.model_series()
        graphs = {name: self._graph(info, name, series, *found) for name, found in learned.items()}
        backend = graphs[info.image_graph].opened.backend
        status = replace(
            unloaded.status,
            info=replace(info, w_mean=opening.w_mean),
            backend=backend.name,
            device=backend.device,
            precision=backend.precision,
            runtimes={name: runtimes(graph.opened) for name, graph in graphs.items()},
            resident_bytes=max(0, resident_bytes() - before),
        )
        model = Model(status, unloaded.directory, graphs, self._metrics, series)
        seconds, megabytes = time.monotonic() - started, status.resident_bytes / 1e6
        log.info("model %s ready in %.2f s, %.0f MB: %s", info.reference, seconds, megabytes, ", ".join(graphs))
        return model

    def _graph(self, info: ModelInfo, graph: str, series: ModelSeries, opened: Opened, warm: WarmUp) -> LoadedGraph:
        observer = GraphMetrics(self._metrics, series, info.name, graph)
        runner = self._runner(info.name, graph, opened, warm, observer)
        return LoadedGraph(opened=opened, runner=runner, statistics=observer.statistics)

    def _runner(self, model: str, graph: str, opened: Opened, warm: WarmUp, observer: Observer) -> GraphRunner:
        """Make what runs a graph: on the event loop if it is tiny, else in threads."""
        backend, longest = opened.backend, max(seconds for _, seconds in warm.runs)
        tiny = graph_kind(graph) == "mapping" and backend.device == "cpu" and longest < inline.MAX_SECONDS
        limits = BatchLimits(
            max_batch_size=warm.max_batch_size,
            max_batch_seconds=self._settings.max_batch_seconds,
            max_queue_seconds=self._settings.max_queue_seconds,
            instances=backend.instances,
            exclusive=backend.exclusive,
            yields=self._settings.threads > 1 and not self._remote,  # those that only wait need not yield
        )
        return self._make_runner(
            RunnerSpec(
                name=f"{model}.{graph}",
                run=backend.run,
                observer=observer,
                limits=limits,
                spans=BatchSpans(model, graph, backend.name),
                costs=CostModel.of(warm.runs),
                exclusive_costs=CostModel.of(warm.exclusive_runs),
                inline=tiny,
            )
        )


MakeLoader: TypeAlias = Callable[[Settings, Metrics, Remote | None], Loader]


class _Opening:
    """Opens the graphs of one directory, in a thread.

    Attributes:
        abandoned: nobody waits for it any more.
        w_mean: float32[D], once it has run; None where the model has none.
    """

    def __init__(self, directory: Path, info: ModelInfo, settings: Settings, options: BackendOptions) -> None:
        self._directory, self._info, self._settings, self._options = directory, info, settings, options
        self.abandoned = threading.Event()
        self.w_mean: Array | None = None

    def run(self) -> dict[str, tuple[Opened, WarmUp]]:
        """Verify, open, compare and warm up; what was opened is closed again if anything fails."""
        opened: dict[str, tuple[Opened, WarmUp]] = {}
        here = not self._options.remote  # graphs are verified when they are opened
        self._info.manifest.verify_files(self._directory, {CHECK_FILE, W_MEAN_FILE}, others=here)
        autotuner = Autotuner(self._settings.backend, self._options, default_cache())
        vectors = read_vectors(self._directory / CHECK_FILE)
        byte_count = self._settings.max_batch_bytes or free_bytes() // 2
        backends = []
        try:
            for graph in self._info.graphs:
                self._check_wanted()
                name = f"{self._info.name}.{graph}"
                found = autotuner.open(GraphFiles(name, graph, self._directory, self._info.manifest, vectors))
                backends.append(found.backend)
                trim_memory()  # before the warm-up, which allocates what it will use again
                rows = most_rows(found.backend, self._settings.max_batch_size)
                limits = SizeLimits(rows, self._settings.max_batch_seconds, byte_count)
                opened[graph] = found, warm_up(name, graph, found.backend, vectors, limits)
            mean = self._directory / W_MEAN_FILE
            self.w_mean = np.load(mean, allow_pickle=False) if mean.exists() else None
        except BaseException:
            for backend in backends:
                backend.close()
            trim_memory()
            raise
        return opened

    def _check_wanted(self) -> None:
        if self.abandoned.is_set():
            raise DrainingError(f"model {self._info.reference} is not needed any more; load it again")


def backend_options(settings: Settings, resolution_px: int, remote: RemoteModel | None = None) -> BackendOptions:
    """Return the options of a model's backends.

    Where a run takes gigabytes and the cores are few, batches run one at a time: a second one would gain next to
    nothing.

    Args:
        settings: of the server.
        resolution_px: of the model.
        remote: the model, if its graphs run elsewhere.
    """
    here = settings.device == "cpu" and settings.backend != TRITON
    one = here and resolution_px >= _LARGE_PX and settings.threads <= _FEW_THREADS
    return BackendOptions(
        device=settings.device,
        threads=settings.threads,
        instances=settings.instances or int(one),
        precision=settings.precision,
        remote=remote,
    )
