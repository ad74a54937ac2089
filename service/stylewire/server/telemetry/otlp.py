"""Traces by OpenTelemetry, sent to a collector by OTLP. The only module that imports opentelemetry.

The variables ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_EXPORTER_OTLP_*`` and ``OTEL_BSP_*`` mean what
they mean everywhere, where no setting says otherwise.
"""

import importlib.metadata
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, TraceFlags, format_span_id, format_trace_id
from opentelemetry.trace import StatusCode as SpanStatus
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stylewire.server.config.settings import SettingError
from stylewire.server.tracing import Metadata, Phase

log = logging.getLogger(__name__)

_OURS = "stylewire."
_FLUSH_SECONDS = 3.0
"""Time that the last spans have to reach the collector when the server stops."""
_MOST_PHASES = 1000
"""Of one call: an interpolation of 3600 frames has 14,000, and no viewer shows them."""
_MOST_CHARACTERS = 64
_W3C = frozenset({"traceparent", "tracestate"})
_HEADER = re.compile(r"([a-z0-9_.-]+)=([\x20-\x7e]*)")
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Codes that OpenTelemetry's conventions count as errors of a server; the others are the client's doing."""
_EXPORT_LOG = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
_QUEUE_LOG = logging.getLogger("opentelemetry.sdk._shared_internal")


class OtlpTracer:
    """Makes spans, samples them, and sends them from a thread of its own; see ``tracing.Tracer``.

    Args:
        endpoint: of the collector.
        headers: metadata for it.
        ratio: share of the calls that are traced, of those whose caller has not decided.
    """

    def __init__(self, endpoint: str, headers: Sequence[tuple[str, str]], ratio: float) -> None:
        logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)  # warns of each malformed header of a caller
        version = importlib.metadata.version("stylewire")
        self._resource, self._scope = _resource(version), InstrumentationScope("stylewire", version)
        self._exporter = _Exporter(endpoint, headers)
        self._queue = BatchSpanProcessor(self._exporter)
        sampler = ParentBasedTraceIdRatio(ratio)
        self._provider = TracerProvider(sampler=sampler, resource=self._resource, shutdown_on_exit=False)
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer("stylewire", version)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, service: str, method: str, metadata: Metadata, request_id: str) -> "Call | None":
        """Start the span of a call; return None for a probe."""
        if not service.startswith(_OURS):
            return None
        attributes = {
            "rpc.system": "grpc",
            "rpc.system.name": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "stylewire.request_id": request_id,
        }
        now = time.time_ns()
        offset = now - time.monotonic_ns()
        span = self._tracer.start_span(
            f"{service}/{method}", self._parent(metadata), SpanKind.SERVER, attributes, start_time=now
        )
        return Call(self, span, offset)

    def _parent(self, metadata: Metadata) -> Context:
        carrier: dict[str, list[str]] = {}
        for key, value in metadata:
            if key in _W3C and isinstance(value, str):
                carrier.setdefault(key, []).append(value)
        return self._propagator.extract(carrier, Context()) if carrier else Context()

    def record(self, parent: SpanContext | None, phase: Phase, offset: int) -> SpanContext:
        """Export a span of a phase that has ended; without a parent, in a trace of its own.

        Not by the SDK's tracer, which takes 20 us for what is 4 us here: there are several of these a call.
        """
        ids = self._provider.id_generator
        trace_id = parent.trace_id if parent else ids.generate_trace_id()
        flags, state = (parent.trace_flags, parent.trace_state) if parent else (TraceFlags(TraceFlags.SAMPLED), None)
        context = SpanContext(trace_id, ids.generate_span_id(), is_remote=False, trace_flags=flags, trace_state=state)
        span = ReadableSpan(
            phase.name,
            context,
            parent,
            self._resource,
            {**phase.attributes, "error.type": phase.error} if phase.error else phase.attributes,
            links=[link for link in phase.links if isinstance(link, Link)],
            status=Status(SpanStatus.ERROR if phase.error else SpanStatus.UNSET),
            start_time=_nanoseconds(phase.start) + offset,
            end_time=_nanoseconds(phase.stop) + offset,
            instrumentation_scope=self._scope,
        )
        self._queue.on_end(span)
        return context

    def flush(self) -> None:
        """Send what has ended until now; blocks."""
        self._queue.force_flush()

    def close(self) -> None:
        """Send what is left; blocks for a few seconds at most."""
        late = threading.Timer(0 if self._exporter.down else _FLUSH_SECONDS, self._exporter.shutdown)
        late.daemon = True
        late.start()
        self._provider.shutdown()
        late.cancel()
        self._exporter.forget()


class Call:
    """One call in its trace; see ``tracing.CallTrace``.

    Its times all have the offset between the clocks at its beginning, so that none is moved when the clock is set.
    """

    __slots__ = ("_context", "_offset", "_phases", "_span", "_tracer", "link", "recording", "span_id", "trace_id")

    def __init__(self, tracer: OtlpTracer, span: Span, offset: int) -> None:
        self._tracer, self._span, self._offset, self._phases = tracer, span, offset, 0
        self._context = span.get_span_context()
        self.link = Link(self._context)
        self.recording = span.is_recording()
        self.trace_id = format_trace_id(self._context.trace_id)
        self.span_id = format_span_id(self._context.span_id)

    def phase(self, phase: Phase) -> None:
        """Export a phase of the call; past the limit it is only counted."""
        self._phases += 1
        if self._phases <= _MOST_PHASES:
            self._tracer.record(self._context, phase, self._offset)

    def batch(self, phase: Phase) -> Link:
        """Export a batch that this call is in, as a trace of its own; return the link to it."""
        return Link(self._tracer.record(None, phase, self._offset))

    def end(self, code: int, code_name: str, model: str) -> None:
        """End the call's span with its gRPC status."""
        if not self._span.is_recording():
            return
        self._span.set_attributes({"rpc.grpc.status_code": code, "rpc.response.status_code": code_name})
        if model:
            self._span.set_attribute("stylewire.model", model[:_MOST_CHARACTERS])
        if self._phases > _MOST_PHASES:
            self._span.set_attribute("stylewire.phases_left_out", self._phases - _MOST_PHASES)
        if code_name in _FAULTS:
            self._span.set_attribute("error.type", code_name)
            self._span.set_status(SpanStatus.ERROR)
        self._span.end(time.monotonic_ns() + self._offset)


class _Exporter(OTLPSpanExporter):
    """Sends spans; logs one warning when the collector goes away, and one line when it is back.

    Attributes:
        down: whether the last attempt failed.
    """

    def __init__(self, endpoint: str, headers: Sequence[tuple[str, str]]) -> None:
        super().__init__(endpoint, headers=headers or None)  # without ours, those of OTEL_EXPORTER_OTLP_HEADERS
        self.down = self._stopped = False
        _EXPORT_LOG.addFilter(self._first_failure)
        _QUEUE_LOG.addFilter(self._not_down)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; log once that the collector takes them again."""
        result = super().export(spans)
        if self.down and result is SpanExportResult.SUCCESS:
            self.down = False
            log.info("the collector takes spans again")
        return result

    def shutdown(self, timeout_millis: float = 0, **_: object) -> None:
        """Stop, and drop what is being sent; once."""
        if not self._stopped:
            self._stopped = self.down = True
            super().shutdown(timeout_millis)

    def forget(self) -> None:
        """Remove the filters from the loggers of the SDK."""
        _EXPORT_LOG.removeFilter(self._first_failure)
        _QUEUE_LOG.removeFilter(self._not_down)

    def _first_failure(self, record: logging.LogRecord) -> bool:
        """Pass the first message of an outage, which has address and code, as a warning: spans are worth no error."""
        if record.levelno < logging.WARNING:
            return True
        first, self.down = not self.down, True
        record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
        return first

    def _not_down(self, record: logging.LogRecord) -> bool:
        """Drop what follows from an outage: a full queue."""
        return record.levelno < logging.WARNING or not self.down


def parse_headers(text: str) -> list[tuple[str, str]]:
    """Parse ``name=value,name=value``, percent-encoded as in ``OTEL_EXPORTER_OTLP_HEADERS``.

    Raises:
        SettingError: an entry is malformed; the message has its number only, since it may be a secret.
    """
    headers = []
    for place, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        name, equals, value = entry.partition("=")
        found = _HEADER.fullmatch(name.strip().lower() + equals + unquote(value.strip()))
        if not found:
            raise SettingError(f"--otlp-headers: entry {place} is no name=value of printable ASCII (not shown here)")
        headers.append((found[1], found[2]))
    return headers


def _resource(version: str) -> Resource:
    """Return the resource of this process; the environment overrides it."""
    found = Resource.create()
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        found = Resource.create({SERVICE_NAME: "stylewire"})
    own: Mapping[str, str | int] = {
        "service.version": version,
        "service.instance.id": str(uuid.uuid4()),
        "process.pid": os.getpid(),
    }
    return Resource(own).merge(found)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
