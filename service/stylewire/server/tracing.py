"""What the server tells about calls and batches while it traces; that it goes to OpenTelemetry, only ``otlp.py`` knows.

Times are monotonic seconds. Without tracing, ``current`` is always None and nothing else here is ever reached.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

from grpc import StatusCode

from stylewire.server.config.settings import SettingError, Settings

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
    """

    trace_id: str
    span_id: str

    @property
    def link(self) -> Link:
        """What the batches that it is in point at."""
        ...

    def phase(self, phase: Phase) -> None:
        """Note what was done for the call."""
        ...

    def batch(self, phase: Phase) -> Link:
        """Note a batch that this call is in, with others; it belongs to no call's trace."""
        ...

    def end(self, code: StatusCode, model: str) -> None:
        """Note that the call has ended."""
        ...


class Tracer(Protocol):
    """Follows calls."""

    def begin(self, service: str, method: str, metadata: Metadata, request_id: str) -> CallTrace | None:
        """Begin to follow a call, in the trace that its metadata names; None for probes, which are not followed.

        If it is to be traced, it is what ``current`` gives in this task, and in those that it starts.
        """
        ...

    def close(self) -> None:
        """Send what is left; blocks for a few seconds at most."""
        ...


_current: ContextVar[CallTrace | None] = ContextVar("call", default=None)
current = _current.get
"""Gives the call of the running task if it is traced."""
follow = _current.set


def phase(name: str, start: float, stop: float) -> None:
    """Note what was done for the call of the running task."""
    if call := current():
        call.phase(Phase(name=name, start=start, stop=stop, attributes={}))


def open_tracer(settings: Settings) -> Tracer | None:
    """Start to trace, if a collector is named.

    Raises:
        SettingError: the packages are not installed, or the headers are malformed.
    """
    if not settings.otlp_endpoint:
        return None
    try:
        module = importlib.import_module("stylewire.server.telemetry.otlp")  # needs an extra
    except ImportError as err:
        found = f"--otlp-endpoint needs a package that is not installed ({err.name})"
        raise SettingError(f"{found}: pip install 'stylewire[tracing]'") from err
    headers = module.parse_headers(settings.otlp_headers.get_secret_value())
    return cast("Tracer", module.OtlpTracer(settings.otlp_endpoint, headers, settings.trace_sample_ratio))
