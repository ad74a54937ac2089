"""The engine of one process: models, what batches their graphs, and projections, behind ``engine_api.Engine``.

It is the only thing of this wing that a front ever holds.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from stylewire.errors import BackendUnavailableError, ModelNotReadyError
from stylewire.server.config.settings import Settings
from stylewire.server.engine.backends import TRITON, Remote, RemoteOptions, open_remote
from stylewire.server.engine.batching.runner import GraphRunner
from stylewire.server.engine.models.lifecycle import Lifecycle
from stylewire.server.engine.models.loader import Loader, MakeLoader
from stylewire.server.engine.models.operations import Operations
from stylewire.server.engine.models.registry import Lease
from stylewire.server.engine.models.repository import Repository
from stylewire.server.engine.models.watcher import Watcher
from stylewire.server.engine.projection.projector import Projector
from stylewire.server.engine.projection.tasks import Task
from stylewire.server.engine_api.catalog import Catalog
from stylewire.server.engine_api.engine import GraphRequest
from stylewire.server.engine_api.graphs import BatchResult
from stylewire.server.engine_api.models import ModelInfo, ModelStatus
from stylewire.server.engine_api.projection import Found, Progress, ProjectionRequest
from stylewire.server.engine_api.statistics import GraphStatistics
from stylewire.server.telemetry.metrics import Metrics

_CLOSE_SECONDS = 2.0
"""Time that graphs have to end when every call has ended: what they compute then is for nobody."""
_PATIENCE = 0.8
"""Part of the time after which a batch counts as hung: a server elsewhere that hangs is no hang of this one."""


class LocalEngine:
    """An engine in this process; see ``engine_api.engine.Engine`` for what a front may ask of it.

    Args:
        settings: of the server.
        models: the model repository.
        metrics: where models, graphs and projections are shown.
        make_loader: makes what loads models; tests hold loads and graphs by it.

    Attributes:
        projector: runs projections.
        remote: servers elsewhere that run the graphs; None if they run here.

    Raises:
        ManifestError: the repository holds no model, or one that cannot be used.
        BackendUnavailableError: a package is missing for graphs that run elsewhere.
    """

    def __init__(self, settings: Settings, models: Path, metrics: Metrics, make_loader: MakeLoader = Loader) -> None:
        self._settings = settings
        self.remote = _open_remote(settings)
        loader = make_loader(settings, metrics, self.remote)
        self._lifecycle = Lifecycle(Repository(models), settings, metrics, loader)
        self._registry = self._lifecycle.registry
        self._operations = Operations(self._lifecycle)
        self.projector = Projector(settings, metrics.projections)
        self._watching: asyncio.Task[None] | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the models.

        Raises:
            ManifestError: a model directory is damaged.
            BackendUnavailableError: the backend or device cannot be used here.
        """
        if self.remote:
            self.remote.start()
        await self._lifecycle.start()
        if self._settings.watch_seconds:
            watcher = Watcher(self._lifecycle, self._settings.watch_seconds)
            self._watching = asyncio.create_task(watcher.run())

    def interrupt(self) -> None:
        """End a start that waits for servers elsewhere; on the event loop. What is loaded here is loaded."""
        if self.remote:
            self.remote.interrupt()

    def stop_watching(self) -> None:
        """Follow the model repository no more."""
        if self._watching:
            self._watching.cancel()

    async def close(self) -> None:
        """End projections, finish what waits, free the models.

        Raises:
            BackendUnavailableError: a graph hangs; everything else has ended.
        """
        self.stop_watching()
        await self.projector.close()
        try:
            await asyncio.wait_for(self._lifecycle.close(), _CLOSE_SECONDS)
        except TimeoutError as err:
            raise BackendUnavailableError("stopped although a graph still runs") from err
        finally:
            if self.remote:
                await self.remote.close()

    def hung_graphs(self, hang_seconds: float) -> list[str]:
        """Name the graphs with a batch that has been running for longer than that."""
        return self._registry.hung_graphs(hang_seconds)

    # --- what a front asks -------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The models as they are now."""
        return self._registry.catalog

    @property
    def ready(self) -> bool:
        """Whether all models answer, those that run elsewhere too."""
        return self.catalog.ready and (self.remote is None or self.remote.ready)

    def lease(self) -> AbstractContextManager[Lease]:
        """Let a call use models."""
        return self._registry.lease()

    def check(self, model: ModelInfo, graph: str, row_count: int, deadline: float | None) -> None:
        """Refuse now what ``run`` would refuse."""
        self._runner(model, graph).check(row_count, deadline)

    async def run(self, request: GraphRequest) -> BatchResult:
        """Run rows of a graph."""
        runner = self._runner(request.model, request.graph)
        return await runner.submit(request.inputs, request.outputs, request.deadline, request.convert, request.trace)

    def check_projection(self, model: ModelInfo, step_count: int, deadline: float | None) -> None:
        """Refuse now what ``project`` would refuse."""
        self.projector.check(model.digest, step_count, deadline)

    async def project(self, request: ProjectionRequest) -> AsyncGenerator[Progress | Found]:
        """Optimize a code."""
        model = request.model
        loaded = self._registry.model(model)
        assert loaded is not None  # leased
        task = Task(
            directory=str(loaded.directory),
            digest=model.digest,
            start=request.start,
            encoded=request.encoded,
            mean=model.mean_code,
            target=request.target,
            step_count=request.step_count,
            seed=request.seed,
            noise_sides_px=request.noise_sides_px,
            picture_interval=request.picture_interval,
        )
        async with contextlib.aclosing(self.projector.project(task, request.deadline)) as events:
            async for event in events:
                yield event

    def statistics(self, model: ModelInfo) -> Mapping[str, GraphStatistics]:
        """Return what each graph of a model has done."""
        loaded = self._registry.model(model)
        return {name: each.counts for name, each in loaded.statistics.items()} if loaded else {}

    def states(self) -> Iterator[tuple[str, str, str]]:
        """Return name, version and state of everything that is loaded, or could not be."""
        return self._lifecycle.states()

    async def load(self, name: str, version: str) -> ModelStatus:
        """Load a directory of the model repository."""
        return await self._operations.load(name, version)

    async def unload(self, name: str, version: str) -> list[ModelStatus]:
        """Retire a version of a model, or all of them."""
        return await self._operations.unload(name, version)

    async def reload(self, name: str, version: str) -> ModelStatus:
        """Load a model that is loaded once more."""
        return await self._operations.reload(name, version)

    def _runner(self, model: ModelInfo, graph: str) -> GraphRunner:
        loaded = self._registry.model(model)
        if loaded is None:
            raise ModelNotReadyError(f"model {model.reference!r} is loading; retry", retry_after_seconds=1.0)
        if graph not in loaded.runners:
            loaded.status.require(graph)
        return loaded.runners[graph]


def _open_remote(settings: Settings) -> Remote | None:
    if settings.backend != TRITON:
        return None
    return open_remote(
        RemoteOptions(
            addresses=tuple(settings.triton_url.split(",")),
            tls_ca=settings.triton_tls_ca,
            shared_memory=settings.triton_shared_memory == "auto",
            patience_seconds=_PATIENCE * settings.hang_seconds,
        )
    )
