"""Every metric in one table, and the endpoint that shows them.

Labels come from closed sets only: registered methods, status codes, loaded models and their graphs.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from stylewire.server.batches import BatchResult, Dispatch

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

    def waiting_rows(self, graph: str) -> int:
        """Count the rows that wait for a graph."""
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
        self.dispatched = counter(
            "stylewire_batches_total", "Batches, by the reason why they had no more rows.", (*_GRAPH, "dispatch"))
        self.batch_size = histogram("stylewire_batch_size", "Rows of a batch.", _GRAPH, _SIZES)
        self.entry_batch_size = histogram(
            "stylewire_request_batch_size", "Rows of the largest batch that a request was in.", _GRAPH, _SIZES)
        self.waiting = gauge("stylewire_waiting_rows", "Rows that wait for a graph.", _GRAPH)
        self.backlog = gauge("stylewire_backlog_seconds", "Predicted time until a graph is idle.", _GRAPH)
        self.refused = counter("stylewire_refused_total", "Requests that got no rows, by reason.", (*_GRAPH, "reason"))
        self.model = gauge("stylewire_model_info", "Models that are ready.",
                           ("model", "digest", "backend", "device", "precision"))
        self.graph = gauge("stylewire_graph_info", "What runs a graph.", (*_GRAPH, "backend", "device", "precision"))
        self.resident = gauge("stylewire_model_resident_bytes", "Memory that loading a model took.", ("model",))
        # fmt: on
        self._tasks = Gauge("stylewire_tasks", "Tasks of the event loop.", registry=self.registry)

    def watch_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count the tasks of a loop when they are asked for: more and more of them are a leak."""
        self._tasks.set_function(lambda: len(asyncio.all_tasks(loop)))

    def method(self, method: Method) -> "MethodMetrics":
        """Show a method, at 0 before its first call so that rates are right from the first scrape."""
        return MethodMetrics(self, method)

    def watch_backlogs(self, models: Iterable["WatchedModel"]) -> None:
        """Compute the queue and the predicted backlog of every graph when they are asked for."""
        for model in models:
            for graph in model.graphs:
                self.backlog.labels(model.name, graph).set_function(partial(model.backlog_seconds, graph))
                self.waiting.labels(model.name, graph).set_function(partial(model.waiting_rows, graph))

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


class MethodMetrics:
    """The metrics of one gRPC method, with the labels bound once."""

    def __init__(self, metrics: Metrics, method: Method) -> None:
        self.method = method
        self.started = metrics.started.labels(*method)
        self.received = metrics.received.labels(*method)
        self.sent = metrics.sent.labels(*method)
        self.handling = metrics.handling.labels(*method)
        self.phases = {phase: metrics.phase.labels(phase) for phase in PHASES}
        self._handled = metrics.handled
        self._by_code = {"OK": metrics.handled.labels(*method, "OK")}

    def handled(self, code: str) -> Counter:
        """The counter of calls that ended with this status."""
        if code not in self._by_code:
            self._by_code[code] = self._handled.labels(*self.method, code)
        return self._by_code[code]


class GraphMetrics:
    """What a batcher tells, with the labels bound once: a lookup a batch would cost more than the count."""

    def __init__(self, metrics: Metrics, model: str, graph: str) -> None:
        self._queue = metrics.queue.labels(model, graph)
        self._run = metrics.run.labels(model, graph)
        self._batch_size = metrics.batch_size.labels(model, graph)
        self._entry_batch_size = metrics.entry_batch_size.labels(model, graph)
        self._dispatched = {each: metrics.dispatched.labels(model, graph, each.value) for each in Dispatch}
        self._refused = {reason: metrics.refused.labels(model, graph, reason) for reason in REFUSALS}

    def batch(self, size: int, seconds: float, dispatch: Dispatch) -> None:
        """Count a batch that ran."""
        self._batch_size.observe(size)
        self._run.observe(seconds)
        self._dispatched[dispatch].inc()

    def entry(self, result: BatchResult) -> None:
        """Count a request that got its rows."""
        self._queue.observe(result.queue_seconds)
        self._entry_batch_size.observe(result.batch_size)

    def refused(self, reason: str) -> None:
        """Count a request that got none."""
        self._refused[reason].inc()
