"""A model that is loaded: its graphs with what runs them, who uses it, and its end."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stylewire.server.engine.batching.runner import GraphRunner
from stylewire.server.engine.models.autotune import Opened
from stylewire.server.engine.models.measurements import fastest
from stylewire.server.engine.models.usage import Usage
from stylewire.server.engine_api.models import ModelInfo, ModelStatus, Runtime, State
from stylewire.server.host import trim_memory
from stylewire.server.telemetry.metrics import Metrics
from stylewire.server.telemetry.model_series import ModelSeries
from stylewire.server.telemetry.statistics import Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedGraph:
    """A graph that runs.

    Attributes:
        opened: its backend, and the candidates that were compared for it.
        runner: batches its rows.
        statistics: what it has done.
    """

    opened: Opened
    runner: GraphRunner
    statistics: Statistics


class Model:
    """A model that is loaded; ``loader.py`` makes it.

    Args:
        status: what it is, as it is now.
        directory: where its files are.
        graphs: of the model.
        metrics: where it is shown while it is loaded.
        series: its label sets there.

    Attributes:
        info: what its directory says.
        directory: as above.
        usage: the calls that use it.
        status: as it is now.
        runners: what runs each graph; empty once it has finished.
        statistics: what each graph has done.
    """

    def __init__(
        self,
        status: ModelStatus,
        directory: Path,
        graphs: Mapping[str, LoadedGraph],
        metrics: Metrics,
        series: ModelSeries,
    ) -> None:
        self.info: ModelInfo = status.info
        self.directory = directory
        self.usage = Usage()
        self.status = replace(status, state=State.READY)
        self._opened = {name: graph.opened for name, graph in graphs.items()}
        self.runners = {name: graph.runner for name, graph in graphs.items()}
        self.statistics = {name: graph.statistics for name, graph in graphs.items()}
        self._metrics, self._series = metrics, series
        self._show()

    @property
    def name(self) -> str:
        """The name that requests use."""
        return self.info.name

    @property
    def graphs(self) -> tuple[str, ...]:
        """Its graphs."""
        return self.info.graphs

    @property
    def state(self) -> State:
        """Whether it answers."""
        return self.status.state

    def backlog_seconds(self, graph: str) -> float:
        """Predict how long a graph is busy with what waits."""
        runner = self.runners.get(graph)
        return runner.backlog_seconds() if runner else 0.0

    def waiting_rows(self, graph: str) -> int:
        """Count the rows that wait for a graph."""
        runner = self.runners.get(graph)
        return runner.waiting_rows() if runner else 0

    def hung_graphs(self, hang_seconds: float) -> list[str]:
        """Name the graphs with a batch that has been running for longer than that."""
        return [graph for graph, runner in self.runners.items() if runner.check_hang(hang_seconds)]

    def retire(self) -> None:
        """Answer the calls that have it, and no new ones."""
        self.status = replace(self.status, state=State.RETIRING)

    async def finish(self) -> None:
        """Finish what waits, refuse what comes, and leave the metrics; a second time does nothing."""
        self.status = replace(self.status, state=State.CLOSED)
        self._metrics.forget_model(self)
        self._series.close()
        for runner in self.runners.values():
            await runner.close()
        self.runners.clear()  # each holds its graph

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
        name, version, status = self.info.name, self.info.version, self.status
        loaded = self.info.digest, status.backend, status.device, status.precision
        self._series.labels(self._metrics.model, name, version, *loaded).set(1)
        self._series.labels(self._metrics.resident, name, version).set(status.resident_bytes)
        for graph, (backend, _) in self._opened.items():
            runs = backend.name, backend.device, backend.precision
            self._series.labels(self._metrics.graph, name, graph, *runs).set(1)
        self._metrics.watch_model(self, self._series)


def runtimes(opened: Opened) -> tuple[Runtime, ...]:
    """Describe what runs a graph, and how the others did that were compared."""
    backend, measurements = opened
    chosen = fastest(measurements)
    found = [
        Runtime(
            backend=each.backend,
            precision=each.precision,
            chosen=each is chosen,
            rows_per_second=each.rows_per_second,
            problem=each.problem,
        )
        for each in measurements
    ]
    if chosen is None:
        found.insert(0, Runtime(backend=backend.name, precision=backend.precision, chosen=True))
    return tuple(found)
