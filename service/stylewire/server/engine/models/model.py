"""One model directory that is served: loading, self-check, warm-up, and freeing it again."""

import asyncio
import contextlib
import logging
import time
from enum import Enum
from pathlib import Path
from typing import TypeAlias

import numpy as np

from stylewire.errors import DrainingError, ModelNotFoundError, ModelNotReadyError, UnsupportedError
from stylewire.latents import Array
from stylewire.manifest import CHECK_FILE, W_MEAN_FILE, EncoderInfo, Manifest, ManifestError
from stylewire.media.provenance import Packets
from stylewire.server.config.settings import Settings
from stylewire.server.engine.backends import (
    TRITON,
    BackendOptions,
    Remote,
    RemoteModel,
    graph_kind,
    graph_suffixes,
    most_rows,
)
from stylewire.server.engine.backends.selfcheck import read_vectors
from stylewire.server.engine.batching import inline
from stylewire.server.engine.batching.batcher import Batcher, Observers
from stylewire.server.engine.batching.inline import Inline
from stylewire.server.engine.batching.scheduler import BatchLimits
from stylewire.server.engine.batching.spans import BatchSpans
from stylewire.server.engine.models.autotune import Chooser, GraphFiles, Opened, default_memory
from stylewire.server.engine.models.usage import Usage
from stylewire.server.engine.models.warmup import SizeLimits, WarmUp, warm_up
from stylewire.server.host import free_bytes, resident_bytes, trim_memory
from stylewire.server.telemetry.metrics import GraphMetrics, Metrics
from stylewire.server.telemetry.statistics import Statistics

Runner: TypeAlias = Batcher | Inline
"""What runs a graph."""

log = logging.getLogger(__name__)

_LARGE_PX, _FEW_THREADS = 1024, 4
"""A picture of 1024 px takes up to 2.2 GB while it is drawn."""


class State(Enum):
    """Whether a model answers."""

    LOADING = "loading"
    READY = "ready"
    RETIRING = "retiring"
    """Replaced or unloaded: it answers the calls that have it, and no new ones."""
    CLOSED = "closed"
    FAILED = "failed"
    """Its directory could not be loaded; there is no such ``Model``, only its name."""


class Model:
    """A model directory that is served.

    Args:
        directory: where it is; read again whenever it is loaded, so no path that may come to mean another one.
        settings: how it is run.
        metrics: where it shows itself while it is loaded.
        version: of the model of this name; empty where it has only one.
        remote: servers elsewhere that run its graphs; None if they run here.

    Attributes:
        manifest: what the directory says of itself.
        version: as above.
        usage: the calls that use it.
        digest: of all its files.
        packets: what the files of its pictures say about their origin.
        backend: what really runs its graphs; known once it is loaded.
        device: where they really run.
        precision: the arithmetic they really run in.
        statistics: what each graph has done, and under an empty name what all of them have done as one.
        resident_bytes: memory that the process has since the model is loaded and warm, and had not before.
    """

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        metrics: Metrics,
        version: str = "",
        remote: Remote | None = None,
    ) -> None:
        self.manifest = Manifest.read(directory)
        self.version = version
        self.usage = Usage()
        self.digest = self.manifest.digest()
        self.packets = Packets(self.manifest.name, self.digest)
        self.state = State.LOADING
        self.backend: str = settings.backend
        self.device: str = settings.device
        self.precision: str = self.manifest.precision
        self._directory, self._settings, self._metrics = directory, settings, metrics
        self.graphs = self._list_graphs()
        self.statistics = {graph: Statistics() for graph in ("", *self.graphs)}
        self._series = metrics.series()
        self._options = BackendOptions(
            device=settings.device,
            threads=settings.threads,
            instances=settings.instances or self._usual_instances(),
            precision=settings.precision,
            remote=RemoteModel(remote, self.name, version) if remote else None,
        )
        self._chooser = Chooser(settings.backend, self._options, default_memory())
        self.resident_bytes = 0
        self._opened: dict[str, Opened] = {}
        self._runners: dict[str, Runner] = {}
        self._w_mean: Array | None = None
        if not self.graphs:
            raise ManifestError(f"{directory} has no graphs for the backend {settings.backend}; export with --formats")

    def _list_graphs(self) -> tuple[str, ...]:
        found = (self.manifest.graphs(suffix) for suffix in graph_suffixes(self._settings.backend))
        return next(filter(None, found), ())

    def _usual_instances(self) -> int:
        """Give 1 where a run takes gigabytes and the cores are few, so that a second one would gain next to nothing."""
        here = self._settings.device == "cpu" and self._settings.backend != TRITON
        large = here and self.manifest.resolution_px >= _LARGE_PX
        return 1 if large and self._settings.threads <= _FEW_THREADS else 0

    @property
    def name(self) -> str:
        """The name that requests use."""
        return self.manifest.name

    @property
    def reference(self) -> str:
        """What a request calls exactly this version."""
        return f"{self.name}@{self.version}" if self.version else self.name

    @property
    def styled(self) -> bool:
        """Whether it has codes; a generator without styles goes from z to the picture in one graph."""
        return "generator" not in self.graphs

    @property
    def picture_graph(self) -> str:
        """The graph that makes pictures."""
        return "synthesis" if self.styled else "generator"

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self._directory

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
        if self.state not in (State.READY, State.RETIRING):
            raise ModelNotReadyError(f"model {self.reference!r} is {self.state.value}; retry", retry_after_seconds=1.0)
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
        runner = self._runners.get(graph)
        return runner.backlog_seconds() if runner else 0.0

    def waiting_rows(self, graph: str) -> int:
        """Count the rows that wait for a graph."""
        runner = self._runners.get(graph)
        return runner.waiting_rows() if runner else 0

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
        self.resident_bytes = max(0, resident_bytes() - before)
        self._show()
        self.state = State.READY
        seconds, megabytes = time.monotonic() - started, self.resident_bytes / 1e6
        log.info("model %s ready in %.2f s, %.0f MB: %s", self.reference, seconds, megabytes, ", ".join(self.graphs))

    def stop_loading(self) -> None:
        """Open no further graph: nobody waits for it any more. What is being opened now is finished first."""
        self.state = State.CLOSED

    async def finish(self) -> None:
        """Finish what waits, refuse what comes, and leave the metrics; a second time does nothing."""
        self.state = State.CLOSED
        self._metrics.forget_model(self)
        self._series.close()
        for runner in self._runners.values():
            await runner.close()
        self._runners.clear()  # each holds its graph

    def free(self) -> None:
        """Free the graphs of a model that has finished. Gigabytes take their time, so call it in a thread."""
        with contextlib.suppress(KeyError):  # when there are no more; a server that stops may be here twice
            while True:
                self._opened.popitem()[1].backend.close()
        trim_memory()

    async def close(self) -> None:
        """Finish, then free."""
        await self.finish()
        await asyncio.to_thread(self.free)

    def _show(self) -> None:
        """Show in the metrics what runs."""
        info = self.digest, self.backend, self.device, self.precision
        self._series.labels(self._metrics.model, self.name, self.version, *info).set(1)
        self._series.labels(self._metrics.resident, self.name, self.version).set(self.resident_bytes)
        for graph, (backend, _) in self._opened.items():
            runs = backend.name, backend.device, backend.precision
            self._series.labels(self._metrics.graph, self.name, graph, *runs).set(1)
        self._metrics.watch_model(self, self._series)

    def _open(self) -> dict[str, WarmUp]:
        here = not self._options.remote  # graphs are verified when they are opened
        self.manifest.verify_files(self._directory, {CHECK_FILE, W_MEAN_FILE}, others=here)
        settings = self._settings
        byte_count = settings.max_batch_bytes or free_bytes() // 2
        vectors = read_vectors(self._directory / CHECK_FILE)
        learned = {}
        for graph in self.graphs:
            if self.state is State.CLOSED:
                raise DrainingError(f"model {self.reference!r} is not needed any more; load it again")
            name = f"{self.name}.{graph}"
            source = GraphFiles(name, graph, self._directory, self.manifest, vectors)
            self._opened[graph] = self._chooser.open(source)
            backend = self._opened[graph].backend
            trim_memory()  # before the warm-up, which allocates what it will use again
            rows = most_rows(backend, settings.max_batch_size)
            limits = SizeLimits(rows, settings.max_batch_seconds, byte_count)
            learned[graph] = warm_up(name, graph, backend, vectors, limits)
        mean = self._directory / W_MEAN_FILE
        self._w_mean = np.load(mean, allow_pickle=False) if mean.exists() else None
        return learned

    def _runner(self, graph: str, warm: WarmUp) -> Runner:
        """Make what runs a graph: on the event loop if it is tiny, else in threads."""
        name, backend = f"{self.name}.{graph}", self._opened[graph].backend
        observer = Observers(GraphMetrics(self._metrics, self._series, self.name, graph), self.statistics[graph])
        spans = BatchSpans(self.name, graph, backend.name)
        longest = max(seconds for _, seconds in warm.runs)
        if graph_kind(graph) == "mapping" and backend.device == "cpu" and longest < inline.MAX_SECONDS:
            size = warm.max_batch_size
            return Inline(name=name, run=backend.run, observer=observer, max_batch_size=size, spans=spans)
        limits = BatchLimits(
            max_batch_size=warm.max_batch_size,
            max_batch_seconds=self._settings.max_batch_seconds,
            max_queue_seconds=self._settings.max_queue_seconds,
            slots=backend.slots,
            wide=backend.wide,
            yields=self._settings.threads > 1 and not self._options.remote,  # those that only wait need not yield
        )
        batcher = Batcher(name=name, run=backend.run, observer=observer, limits=limits, spans=spans)
        for size, seconds in warm.runs:
            batcher.scheduler.costs.learn(size, seconds)
        for size, seconds in warm.wide_runs:
            batcher.scheduler.wide_costs.learn(size, seconds)
        return batcher
