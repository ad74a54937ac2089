"""Gauges read at each scrape: ready, hung graphs, limits, version, and the usual ones of the process."""

import importlib.metadata
from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stylewire.server.host import memory_limit_bytes

READY = "stylewire_ready"
READY_TEXT = "Whether health says SERVING for the service: 1 or 0."


class GraphHealth(NamedTuple):
    """Whether a graph hangs."""

    model: str
    graph: str
    hung: bool


class ServerCollector(Collector):
    """Reads the state of the server at each scrape; between two scrapes it costs nothing.

    Args:
        ready: returns whether health says SERVING.
        graphs: returns all graphs that are loaded.
        max_queue_seconds: backlog at which requests are refused.
    """

    def __init__(
        self, *, ready: Callable[[], bool], graphs: Callable[[], Iterable[GraphHealth]], max_queue_seconds: float
    ) -> None:
        self._ready, self._graphs, self._max_queue_seconds = ready, graphs, max_queue_seconds
        self._version = importlib.metadata.version("stylewire")

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges with their present values."""
        # fmt: off
        yield GaugeMetricFamily(READY, READY_TEXT, float(self._ready()))
        hung = GaugeMetricFamily(
            "stylewire_graph_hung", "Whether a batch has been running for longer than --hang-seconds: 1 or 0.",
            labels=("model", "graph"))
        for model, graph, hangs in self._graphs():
            hung.add_metric((model, graph), float(hangs))
        yield hung
        yield GaugeMetricFamily(
            "stylewire_max_queue_seconds", "Backlog at which requests are refused: --max-queue-seconds.",
            self._max_queue_seconds)
        yield GaugeMetricFamily(
            "stylewire_memory_limit_bytes", "Memory that the process may have: of its cgroup, or the machine's.",
            memory_limit_bytes())
        build = GaugeMetricFamily("stylewire_build_info", "The version that runs.", labels=("version",))
        build.add_metric((self._version,), 1.0)
        yield build
        # fmt: on


def watch_process(registry: CollectorRegistry) -> None:
    """Register metrics of the process, the garbage collector and the interpreter, by the names all clients use."""
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    PlatformCollector(registry=registry)
