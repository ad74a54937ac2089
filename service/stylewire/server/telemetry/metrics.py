"""Every metric in one table, and the endpoint that serves them.

Labels come from closed sets only: registered methods, status codes, loaded models and their graphs.
"""

import asyncio
import collections
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)

from stylewire.server.context import Timings
from stylewire.server.engine_api.graphs import BatchResult, Dispatch
from stylewire.server.telemetry.model_series import ModelSeries, StateCollector, Uses
from stylewire.server.telemetry.statistics import Statistics

_SECONDS = (0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
"""From a mapping network of 0.1 ms to --hang-seconds; each about twice the one before, so quantiles are as exact."""
_CALL_SECONDS = (*_SECONDS[2:], 120, 300)
"""Nothing answers in less than a millisecond; a stream of --max-frames takes minutes."""
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
REJECTIONS = ("UNAUTHENTICATED", "RATE_LIMITED", "OVERLOADED")
"""Reasons for which a call is refused before its request is parsed."""
REFUSALS = ("overloaded", "deadline", "expired", "cancelled", "failed")
ALIGNMENTS, FACE_RESULTS = ("face", "anime"), ("none", "one", "several", "failed")
PHASES = ("queue", "inference", "encoding")

CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_GRAPH = ("model", "graph")
_VERSION = ("model", "version")


class Method(NamedTuple):
    """A gRPC method in the labels that go-grpc-middleware made standard."""

    kind: str
    service: str
    name: str


class WatchedModel(Protocol):
    """A model whose graphs have a backlog."""

    @property
    def name(self) -> str:
        """What requests call it."""
        ...

    @property
    def graphs(self) -> Iterable[str]:
        """Names of the graphs that are loaded."""
        ...

    def backlog_seconds(self, graph: str) -> float:
        """Predict how long a graph is busy with what waits."""
        ...

    def waiting_rows(self, graph: str) -> int:
        """Count the rows that wait for a graph."""
        ...


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:  # as long as the table of the metrics
        self.registry = CollectorRegistry()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a sixth of all series, and nobody reads them
        self._uses: Uses = collections.Counter()
        self._watched: dict[str, list[WatchedModel]] = {}

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def histogram(
            name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...] = _SECONDS
        ) -> Histogram:
            return Histogram(name, text, labels, registry=self.registry, buckets=buckets)

        def gauge(name: str, text: str, labels: tuple[str, ...]) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        # fmt: off
        self.started = counter("grpc_server_started_total", "RPCs started.", _METHOD)
        self.handled = counter("grpc_server_handled_total", "RPCs completed, by status.", (*_METHOD, "grpc_code"))
        self.received = counter("grpc_server_msg_received_total", "Messages received.", _METHOD)
        self.sent = counter("grpc_server_msg_sent_total", "Messages sent.", _METHOD)
        self.handling = histogram("grpc_server_handling_seconds", "Time from the start of an RPC to its end.", _METHOD,
                                  _CALL_SECONDS)
        self.rejected = counter(
            "stylewire_rejected_calls_total", "Calls refused before parsing, by reason.", ("reason",))
        self.phase = histogram("stylewire_phase_seconds", "Time of a reply spent in one phase.", ("phase",))
        self.queue = histogram("stylewire_queue_seconds", "Wait of a request for a graph.", _GRAPH)
        self.run = histogram("stylewire_batch_run_seconds", "Run time of a batch.", _GRAPH)
        self.dispatched = counter(
            "stylewire_batches_total", "Batches, by the reason why they had no more rows.", (*_GRAPH, "dispatch"))
        self.batch_size = histogram("stylewire_batch_size", "Rows of a batch.", _GRAPH, _SIZES)
        self.entry_batch_size = histogram(
            "stylewire_request_batch_size", "Rows of the largest batch that a request was in.", _GRAPH, _SIZES)
        self.waiting = gauge("stylewire_waiting_rows", "Rows that wait for a graph.", _GRAPH)
        self.backlog = gauge("stylewire_backlog_seconds", "Predicted time until a graph is idle.", _GRAPH)
        self.refused = counter("stylewire_refused_total", "Requests that got no rows, by reason.", (*_GRAPH, "reason"))
        self.model = gauge("stylewire_model_info", "Models that are ready.",
                           (*_VERSION, "digest", "backend", "device", "precision"))
        self.graph = gauge("stylewire_graph_info", "What runs a graph.", (*_GRAPH, "backend", "device", "precision"))
        self.loop_lag = histogram(
            "stylewire_event_loop_lag_seconds", "How late the event loop was, asked about once a second.", ())
        self.resident = gauge("stylewire_model_resident_bytes", "Memory that loading a model took.", _VERSION)
        self.loads = counter("stylewire_model_loads_total", "Models loaded, by result.", ("model", "result"))
        self.faces = counter("stylewire_faces_total", "Pictures searched for faces, by what was found.",
                             ("alignment", "result"))
        self.search = histogram("stylewire_face_search_seconds", "Time of a search for faces.", ("alignment",))
        # fmt: on
        self.projections = ProjectionMetrics(self.registry)
        self._tasks = Gauge("stylewire_tasks", "Tasks of the event loop.", registry=self.registry)
        for alignment in ALIGNMENTS:
            for result in FACE_RESULTS:
                self.faces.labels(alignment, result)
        for reason in REJECTIONS:
            self.rejected.labels(reason)

    def watch_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count the tasks of a loop at each scrape: more and more of them are a leak."""
        self._tasks.set_function(lambda: len(asyncio.all_tasks(loop)))

    def method(self, method: Method) -> "MethodMetrics":
        """Bind the metrics of a method, at 0 before its first call so that rates are right from the first scrape."""
        return MethodMetrics(self, method)

    def model_series(self) -> ModelSeries:
        """Make the label sets of one model, which are removed with it."""
        return ModelSeries(self._uses)

    def watch_model(self, model: "WatchedModel", series: ModelSeries) -> None:
        """Compute the queue and the predicted backlog of every graph at each scrape."""
        self._watched.setdefault(model.name, []).append(model)
        for graph in model.graphs:
            labels = model.name, graph
            series.labels(self.waiting, *labels).set_function(partial(self._waiting_rows, *labels))
            series.labels(self.backlog, *labels).set_function(partial(self._backlog_seconds, *labels))

    def forget_model(self, model: "WatchedModel") -> None:
        """Remove a model from what ``watch_model`` computes."""
        left = [each for each in self._watched.get(model.name, []) if each is not model]
        self._watched[model.name] = left
        if not left:
            del self._watched[model.name]

    def watch_states(self, states: Callable[[], Iterable[tuple[str, str, str]]], known: Iterable[str]) -> None:
        """Count the states of models, given as name, version and state, at each scrape."""
        self.registry.register(StateCollector(states, known))

    def _waiting_rows(self, name: str, graph: str) -> int:
        return sum(model.waiting_rows(graph) for model in self._watched.get(name, ()))

    def _backlog_seconds(self, name: str, graph: str) -> float:
        """Return the longest: versions of a model have queues of their own and run side by side."""
        return max((model.backlog_seconds(graph) for model in self._watched.get(name, ())), default=0.0)

    def serve(self, host: str, port: int) -> tuple[int, Callable[[], None]]:
        """Serve the metrics over HTTP.

        Returns:
            The port that was taken, and a function that stops.
        """
        server, thread = start_http_server(port, host, self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return server.server_port, stop


class MethodMetrics:
    """The metrics of one gRPC method, with the labels bound once."""

    def __init__(self, metrics: Metrics, method: Method) -> None:
        self.started = metrics.started.labels(*method)
        self.received = metrics.received.labels(*method)
        self.sent = metrics.sent.labels(*method)
        self.handling = metrics.handling.labels(*method)
        self._queue, self._inference, self._encoding = (metrics.phase.labels(phase) for phase in PHASES)
        # All codes: a counter that appears at 1 has no increase, and the first error would raise no alert.
        self._handled = {code: metrics.handled.labels(*method, code) for code in CODES}

    def reply(self, timings: Timings) -> None:
        """Count where the time of a reply went."""
        self._queue.observe(timings.queue_seconds)
        self._inference.observe(timings.inference_seconds)
        self._encoding.observe(timings.encoding_seconds)

    def handled(self, code: str) -> Counter:
        """Return the counter of calls that ended with this status."""
        return self._handled[code]


class ProjectionMetrics:
    """Metrics of projections.

    Attributes:
        running: those in flight.
        waiting: those in the queue.
    """

    RESULTS = ("done", "cancelled", "overloaded", "deadline", "failed")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running = Gauge("stylewire_projections_running", "Projections in flight.", registry=registry)
        self.waiting = Gauge("stylewire_projections_waiting", "Projections that wait.", registry=registry)
        self._steps = Counter("stylewire_projection_steps_total", "Steps that projections made.", registry=registry)
        self._seconds = Histogram(
            "stylewire_projection_step_seconds", "Time of a step.", registry=registry, buckets=_SECONDS[3:]
        )
        self._ended = Counter(
            "stylewire_projections_total", "Projections that ended, by result.", ("result",), registry=registry
        )
        for result in self.RESULTS:
            self._ended.labels(result)

    def step(self, seconds: float) -> None:
        """Count a step."""
        self._steps.inc()
        self._seconds.observe(seconds)

    def ended(self, result: str) -> None:
        """Count a projection that ended or was refused."""
        self._ended.labels(result).inc()


class GraphMetrics:
    """Observes a graph, with the labels bound once: a lookup a batch would cost more than the count.

    Attributes:
        statistics: counts of the same events, for the Open Inference Protocol.
    """

    def __init__(self, metrics: Metrics, series: ModelSeries, model: str, graph: str) -> None:
        labels, self.statistics = (model, graph), Statistics()
        self._queue = series.labels(metrics.queue, *labels)
        self._run = series.labels(metrics.run, *labels)
        self._batch_size = series.labels(metrics.batch_size, *labels)
        self._entry_batch_size = series.labels(metrics.entry_batch_size, *labels)
        self._dispatched = {each: series.labels(metrics.dispatched, *labels, each.value) for each in Dispatch}
        self._refused = {reason: series.labels(metrics.refused, *labels, reason) for reason in REFUSALS}

    def batch(self, size: int, seconds: float, dispatch: Dispatch) -> None:
        """Count a batch that ran."""
        self._batch_size.observe(size)
        self._run.observe(seconds)
        self._dispatched[dispatch].inc()
        self.statistics.batch(size, seconds)

    def request(self, result: BatchResult) -> None:
        """Count a request that got its rows."""
        self._queue.observe(result.queue_seconds)
        self._entry_batch_size.observe(result.batch_size)
        self.statistics.request(result)

    def refused(self, reason: str) -> None:
        """Count a request that got none."""
        self._refused[reason].inc()
        self.statistics.refused()
