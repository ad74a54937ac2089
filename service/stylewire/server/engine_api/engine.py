"""What a front may ask of an engine: in its own process now, behind a socket later."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from stylewire.errors import StylewireError
from stylewire.server.engine_api.catalog import Catalog
from stylewire.server.engine_api.graphs import Arrays, BatchResult, Convert
from stylewire.server.engine_api.models import ModelInfo, ModelStatus
from stylewire.server.engine_api.projection import Found, Progress, ProjectionRequest
from stylewire.server.engine_api.statistics import GraphStatistics
from stylewire.server.tracing import CallTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRequest:
    """Rows for one graph.

    Attributes:
        model: which model; leased by the caller.
        graph: of it.
        inputs: arrays with the same leading axis N; validated completely.
        outputs: names of the outputs wanted.
        deadline: in seconds of ``time.monotonic``; None for no limit.
        convert: makes something else of the rows.
        trace: the call that it belongs to, if that is traced.
    """

    model: ModelInfo
    graph: str
    inputs: Arrays
    outputs: Sequence[str]
    deadline: float | None = None
    convert: Convert | None = None
    trace: CallTrace | None = None


class Lease(Protocol):
    """The models of one call: those that it gets stay open until it ends, and a name means one model throughout."""

    def get(self, reference: str) -> ModelInfo:
        """Find a model, and keep it open; see ``Catalog.find``. Called in threads too."""
        ...

    def refusal(self, model: ModelInfo, graph: str) -> StylewireError | None:
        """Return why a graph of a model that was found cannot run; None if it can."""
        ...


class Engine(Protocol):
    """Owns models, and runs their graphs. Every method belongs to the event loop of the front."""

    @property
    def catalog(self) -> Catalog:
        """The models as they are now; replaced as a whole when one changes."""
        ...

    @property
    def ready(self) -> bool:
        """Whether all models answer."""
        ...

    def lease(self) -> AbstractContextManager[Lease]:
        """Let a call use models."""
        ...

    def check(self, model: ModelInfo, graph: str, row_count: int, deadline: float | None) -> None:
        """Refuse now what ``run`` would refuse, before its rows are made; raises as that does.

        Raises:
            UnsupportedError: the model has no such graph.
            ModelNotReadyError: it is not loaded.
        """
        ...

    async def run(self, request: GraphRequest) -> BatchResult:
        """Run rows of a graph, together with those of others.

        Raises:
            OverloadedError: the backlog is too long.
            DeadlineError: the deadline cannot be met, or passed in the queue.
            DrainingError: the engine stops.
            BackendUnavailableError: the graph hangs, or what runs it is away.
            BatchError: the batch failed that held rows of this request.
        """
        ...

    def check_projection(self, model: ModelInfo, step_count: int, deadline: float | None) -> None:
        """Refuse now what ``project`` would refuse; raises as that does."""
        ...

    def project(self, request: ProjectionRequest) -> AsyncGenerator[Progress | Found]:
        """Optimize a code: its steps, as far as the reader keeps up, then what was found. Closing it ends the work.

        Raises:
            UnsupportedError: the engine makes no projections, or the model has no mean code.
            OverloadedError: too many wait.
            DeadlineError: it cannot be done in time.
            DrainingError: the engine stops.
            BackendUnavailableError: the process that optimized is gone.
        """
        ...

    def statistics(self, model: ModelInfo) -> Mapping[str, GraphStatistics]:
        """Return what each graph of a model has done."""
        ...

    def states(self) -> Iterator[tuple[str, str, str]]:
        """Return name, version and state of everything that is loaded, or could not be."""
        ...

    async def load(self, name: str, version: str) -> ModelStatus:
        """Load a directory of the model repository; what is loaded as it is stays as it is.

        Args:
            name: of the model.
            version: of the model, which then stays beside newer ones; empty for the newest.

        Raises:
            ModelNotFoundError: there is no such directory.
            ModelLoadError: it cannot be loaded.
            RetryableError: another model is being loaded.
        """
        ...

    async def unload(self, name: str, version: str) -> list[ModelStatus]:
        """Retire a version of a model, or all of them; none of those comes back by itself while it is as it is.

        Raises:
            ModelNotFoundError: no such model is loaded.
            RetryableError: another model is being loaded.
        """
        ...

    async def reload(self, name: str, version: str) -> ModelStatus:
        """Load a model that is loaded once more, changed or not; an empty version is the newest one loaded.

        Raises:
            ModelNotFoundError: no such model is loaded.
            ModelLoadError: it cannot be loaded; what was there answers.
            RetryableError: another model is being loaded.
        """
        ...
