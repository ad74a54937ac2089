"""Every metric in one table, and the endpoint that shows them.

Labels come from closed sets only: registered methods, status codes, loaded models and their graphs.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from stylewire.server.batches import BatchResult

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
REFUSALS = ("overloaded", "deadline", "expired", "cancelled", "failed")
PHASES = ("queue", "inference", "encoding")

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_GRAPH = ("model", "graph")


class Method(NamedTuple):
    """A gRPC method in the labels that go-grpc-middleware made standard."""

    kind: str
    service: str
    name: str


class WatchedModel(Protocol):
    """A model whose graphs have a backlog."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def graphs(self) -> Iterable[str]:
        """Its graphs."""
        ...

    def backlog_seconds(self, graph: str) -> float:
        """Predict how long a graph is busy with what waits."""
        ...


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

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
        self.handling = histogram("grpc_server_handling_seconds", "Time from the start of an RPC to its end.", _METHOD)
        self.phase = histogram("stylewire_phase_seconds", "Time of a reply spent in one phase.", ("phase",))
        self.queue = histogram("stylewire_queue_seconds", "Wait of a request for a graph.", _GRAPH)
        self.run = histogram("stylewire_batch_run_seconds", "Run time of a batch.", _GRAPH)
        self.batch_size = histogram("stylewire_batch_size", "Rows of a batch.", _GRAPH, _SIZES)
        self.entry_batch_size = histogram(
            "stylewire_request_batch_size", "Rows of the largest batch that a request was in.", _GRAPH, _SIZES)
        self.waiting = gauge("stylewire_waiting_rows", "Rows that wait for a graph.", _GRAPH)
        self.backlog = gauge("stylewire_backlog_seconds", "Predicted time until a graph is idle.", _GRAPH)
        self.refused = counter("stylewire_refused_total", "Requests that got no rows, by reason.", (*_GRAPH, "reason"))
        self.model = gauge("stylewire_model_info", "Models that are ready.",
                           ("model", "digest", "backend", "device", "precision"))
        # fmt: on

    def register_method(self, method: Method) -> None:
        """Show a method at 0 before its first call, so that rates are right from the first scrape."""
        for metric in (self.started, self.received, self.sent, self.handling):
            metric.labels(*method)
        self.handled.labels(*method, "OK")

    def watch_backlogs(self, models: Iterable["WatchedModel"]) -> None:
        """Compute the predicted backlog of every graph when it is asked for."""
        for model in models:
            for graph in model.graphs:
                self.backlog.labels(model.name, graph).set_function(partial(model.backlog_seconds, graph))

    def serve(self, host: str, port: int) -> tuple[int, Callable[[], None]]:
        """Show the metrics over HTTP.

        Returns:
            The port that was taken, and a function that stops.
        """
        server, thread = start_http_server(port, host, self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return server.server_port, stop


class GraphMetrics:
    """What a batcher tells, with the labels bound once: a lookup a batch would cost more than the count."""

    def __init__(self, metrics: Metrics, model: str, graph: str) -> None:
        self._queue = metrics.queue.labels(model, graph)
        self._run = metrics.run.labels(model, graph)
        self._batch_size = metrics.batch_size.labels(model, graph)
        self._entry_batch_size = metrics.entry_batch_size.labels(model, graph)
        self._waiting = metrics.waiting.labels(model, graph)
        self._refused = {reason: metrics.refused.labels(model, graph, reason) for reason in REFUSALS}

    def batch(self, size: int, seconds: float) -> None:
        """Count a batch that ran."""
        self._batch_size.observe(size)
        self._run.observe(seconds)

    def entry(self, result: BatchResult) -> None:
        """Count a request that got its rows."""
        self._queue.observe(result.queue_seconds)
        self._entry_batch_size.observe(result.batch_size)

    def refused(self, reason: str) -> None:
        """Count a request that got none."""
        self._refused[reason].inc()

    def depth(self, rows: int) -> None:
        """Show how many rows wait."""
        self._waiting.set(rows)
