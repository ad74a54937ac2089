"""An OTLP collector on 127.0.0.1 that keeps what it gets."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

TIMEOUT_SECONDS = 30
_ERROR = 2


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span as it came over the wire; ids in hexadecimal digits, times in seconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    tracestate: str
    kind: int
    start: float
    stop: float
    failed: bool
    message: str
    attributes: dict[str, object]
    links: tuple[str, ...]
    resource: dict[str, object]

    @property
    def seconds(self) -> float:
        return self.stop - self.start


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps spans and the metadata that they came with.

    Attributes:
        endpoint: for ``otlp_endpoint``.
        metadata: of the last export.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.metadata: dict[str, str] = {}
        self._spans: list[Span] = []

    def Export(self, request, context):  # noqa: N802 - its name in OTLP
        self.metadata = dict(context.invocation_metadata())
        self._spans += [
            _span(span, _values(group.resource.attributes))
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        return trace_service_pb2.ExportTraceServiceResponse()

    def forget(self) -> None:
        """Throw away what came so far."""
        self._spans = []

    @property
    def spans(self) -> list[Span]:
        return list(self._spans)

    def wait_for(self, reached) -> list[Span]:
        """Wait until a condition on all spans holds; returns them."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while not reached(spans := self.spans):
            assert time.monotonic() < until, "\n".join(map(str, spans))
            time.sleep(0.005)
        return spans

    def call(self, method: str, count: int = 1) -> list[Span]:
        """Wait for the spans of so many calls of a method, which come after those of their phases."""
        return [s for s in self.wait_for(lambda s: count <= sum(map(_is(method), s))) if _is(method)(s)]

    def phases(self, call: Span) -> list[Span]:
        """Spans within a call, in the order in which they began."""
        return sorted((s for s in self.spans if s.parent_id == call.span_id), key=lambda span: span.start)


def _is(method):
    return lambda span: span.name.endswith("/" + method)


def _values(attributes) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def _span(span, resource) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        tracestate=span.trace_state,
        kind=span.kind,
        start=span.start_time_unix_nano / 1e9,
        stop=span.end_time_unix_nano / 1e9,
        failed=span.status.code == _ERROR,
        message=span.status.message,
        attributes=_values(span.attributes),
        links=tuple(link.span_id.hex() for link in span.links),
        resource=resource,
    )


@contextlib.contextmanager
def collecting(address: str = "127.0.0.1:0") -> Iterator[Collector]:
    """Run a collector."""
    with ThreadPoolExecutor(2) as threads:
        collector, server = Collector(), grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
        collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port(address)}"
        server.start()
        try:
            yield collector
        finally:
            server.stop(None).wait()


TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def traceparent(flags="01"):
    return (("traceparent", f"00-{TRACE}-{PARENT}-{flags}"), ("tracestate", "vendor=1"))
