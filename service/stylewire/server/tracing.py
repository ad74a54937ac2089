"""The API of tracing: calls, and the phases and batches in them. Only ``telemetry/otlp.py`` knows OpenTelemetry.

Times are monotonic seconds. Without tracing, no call has a ``CallTrace`` and nothing else here is ever reached.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Attributes: TypeAlias = Mapping[str, str | int | bool]
Link: TypeAlias = object
"""Identifies the span of a batch or a call, for others to point at."""
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Something that has ended.

    Attributes:
        name: such as ``queue`` or ``run synthesis``.
        start: when it began.
        stop: when it ended.
        attributes: what else is known.
        links: spans that it has to do with, beside its parent.
        error: name of the exception's class, if it failed; never its text, which may be of the request.
    """

    name: str
    start: float
    stop: float
    attributes: Attributes
    links: Sequence[Link] = ()
    error: str = ""


class CallTrace(Protocol):
    """One call in its trace.

    Attributes:
        trace_id: 32 hexadecimal digits, for the log.
        span_id: 16 hexadecimal digits.
        recording: whether it is sampled; of others nothing but the identifiers is needed.
    """

    trace_id: str
    span_id: str
    recording: bool

    @property
    def link(self) -> Link:
        """What the batches that it is in point at."""
        ...

    def phase(self, phase: Phase) -> None:
        """Add a span for what was done for the call."""
        ...

    def batch(self, phase: Phase) -> Link:
        """Make the span of a batch that this call is in, with others; it belongs to no call's trace."""
        ...

    def end(self, code: int, code_name: str, model: str) -> None:
        """End the call's span with its gRPC status, such as 5 and ``NOT_FOUND``."""
        ...


class Tracer(Protocol):
    """Traces calls."""

    def begin(self, service: str, method: str, metadata: Metadata, request_id: str) -> CallTrace | None:
        """Begin to trace a call, in the trace that its metadata names; None for probes, which are not traced."""
        ...

    def close(self) -> None:
        """Send what is left; blocks for a few seconds at most."""
        ...
