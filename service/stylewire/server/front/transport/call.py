"""One call under way: what is known of it, and the line that the log gets."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc

from stylewire.server.front.pipeline.results import Run
from stylewire.server.telemetry.logs import Fields
from stylewire.server.telemetry.metrics import MethodMetrics
from stylewire.server.tracing import CallTrace


class TimedReply(NamedTuple):
    """A reply whose message has no place for its times.

    Attributes:
        content: the message as bytes.
        run: where its time went.
    """

    content: bytes
    run: Run


@dataclass(slots=True)
class Call:
    """A call.

    Attributes:
        metrics: of its method.
        request_id: the caller's, or one that was made.
        peer: as grpc names it.
        started: on the monotonic clock.
        client: its name once the call was let in; empty if nobody asked for it.
        trace: where its spans go; None if it is not traced.
        model: as the request names it, unchecked.
    """

    metrics: MethodMetrics
    request_id: str
    peer: str
    started: float
    client: str | None = None
    trace: CallTrace | None = None
    model: str = ""
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    encoding_seconds: float = 0.0
    batch_size: int = 0

    def count(self, response: Any) -> None:
        """Count a message that is about to be sent, and what it says of its time."""
        self.metrics.sent.inc()
        if isinstance(response, TimedReply):
            run = response.run
            self._add([run.queue_seconds, run.inference_seconds, run.encoding_seconds], run.batch_size)
        elif "timing" in response.DESCRIPTOR.fields_by_name and response.HasField("timing"):
            # Models have none, and neither has the progress of a projection.
            batch_size = response.batch.size if "batch" in response.DESCRIPTOR.fields_by_name else 0
            durations = [getattr(response.timing, phase) for phase in self.metrics.phases]
            self._add([each.seconds + each.nanos / 1e9 for each in durations], batch_size)

    def _add(self, seconds: list[float], batch_size: int) -> None:
        """Count the seconds of each phase."""
        for value, histogram in zip(seconds, self.metrics.phases.values(), strict=True):
            histogram.observe(value)
        self.queue_seconds += seconds[0]
        self.inference_seconds += seconds[1]
        self.encoding_seconds += seconds[2]
        self.batch_size = max(self.batch_size, batch_size)

    def line(self, code: grpc.StatusCode, seconds: float) -> Fields:
        """Make its line for the log. Nothing of its content is in it, and no metadata."""
        return Fields(
            request_id=self.request_id,
            peer=self.peer,
            client=_printable(self.client) or "-",
            method=self.metrics.method.name,
            model=_printable(self.model) or "-",
            code=code.name,
            total_ms=round(seconds * 1e3, 1),
            queue_ms=round(self.queue_seconds * 1e3, 1),
            inference_ms=round(self.inference_seconds * 1e3, 1),
            encoding_ms=round(self.encoding_seconds * 1e3, 1),
            batch=self.batch_size,
            **({"trace_id": self.trace.trace_id} if self.trace else {}),
        )


def _printable(text: str | None) -> str:
    """Write what a caller named so that it cannot begin a line of its own."""
    return (text or "")[:64].encode("unicode_escape").decode()
