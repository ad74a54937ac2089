"""One record of a call: who makes it, until when it is wanted, and where its time goes.

The interceptor makes it, and puts it into the log, the metrics and the trace; what serves the call adds
times to it and reads its deadline. Nothing else knows any of these, and no reply is asked for them.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import ParamSpec, Protocol, TypeVar

from stylewire.server.tracing import CallTrace, Phase

P = ParamSpec("P")
T = TypeVar("T")


class GraphTimes(Protocol):
    """What a graph took for one request; ``engine_api.graphs.BatchResult`` is one."""

    @property
    def queue_seconds(self) -> float:
        """Wait until the first row ran."""
        ...

    @property
    def run_seconds(self) -> float:
        """Time in which a batch ran that held rows of it."""
        ...

    @property
    def convert_seconds(self) -> float:
        """Time in which, beside that, rows were converted."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows of the largest of those batches."""
        ...


@dataclass(slots=True)
class Timings:
    """Where the time of a reply went.

    Attributes:
        queue_seconds: waiting for graphs, summed.
        inference_seconds: running graphs, summed.
        encoding_seconds: everything about images that is not a graph.
        batch_size: rows of the largest batch of the graph that ran last; 0 if none ran.
    """

    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    encoding_seconds: float = 0.0
    batch_size: int = 0

    def count(self, graph: GraphTimes) -> None:
        """Add a graph that ran."""
        self.queue_seconds += graph.queue_seconds
        self.inference_seconds += graph.run_seconds
        self.encoding_seconds += graph.convert_seconds
        self.batch_size = graph.batch_size

    def merge(self, other: "Timings") -> None:
        """Add the times of another part of the same reply."""
        self.queue_seconds += other.queue_seconds
        self.inference_seconds += other.inference_seconds
        self.encoding_seconds += other.encoding_seconds
        self.batch_size = other.batch_size or self.batch_size


@dataclass(slots=True, kw_only=True)
class RequestContext:
    """A call in flight.

    Attributes:
        request_id: the caller's, or one that was made.
        peer: as grpc names it.
        started: when it began, in seconds of ``time.monotonic``.
        deadline: until when it is wanted, on the same clock; None for no limit.
        client: its name once the call was let in; None before, empty if nobody asked for it.
        model: as the request names it, unchecked.
        trace: of the call, sampled or not; None if calls are not traced.
        spans: where its spans go; None if it is not traced, or not sampled.
        timings: of the reply that is being made.
        sent: of all replies that were sent.
        observe: takes the times of each reply that is sent.
    """

    request_id: str = ""
    peer: str = ""
    started: float = field(default_factory=time.monotonic)
    deadline: float | None = None
    client: str | None = None
    model: str = ""
    trace: CallTrace | None = None
    spans: CallTrace | None = None
    timings: Timings = field(default_factory=Timings)
    sent: Timings = field(default_factory=Timings)
    observe: Callable[[Timings], object] | None = None

    def limit(self, seconds: float | None) -> None:
        """Move the deadline closer: so many seconds from now at most."""
        if seconds is not None:
            until = time.monotonic() + seconds
            self.deadline = until if self.deadline is None else min(self.deadline, until)

    def part(self) -> "RequestContext":
        """Return the record of one reply of a stream: the same call, with times of its own."""
        return replace(self, timings=Timings())

    def reply(self, timings: Timings) -> None:
        """Count a reply that is about to be sent, by its times."""
        batch_size = max(self.sent.batch_size, timings.batch_size)
        self.sent.merge(timings)
        self.sent.batch_size = batch_size
        if self.observe:
            self.observe(timings)

    def phase(self, name: str, start: float, stop: float) -> None:
        """Put something that was done for the call into its trace."""
        if self.spans:
            self.spans.phase(Phase(name=name, start=start, stop=stop, attributes={}))

    async def timed(
        self, name: str, executor: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function in a thread; it counts as encoding, and is a phase of this name."""
        started = time.monotonic()
        value = await off_loop(executor, function, *args, **kwargs)
        ended = time.monotonic()
        self.timings.encoding_seconds += ended - started
        self.phase(name, started, ended)
        return value


async def off_loop(executor: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a thread, so that other calls go on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(executor, lambda: function(*args, **kwargs))


_current: ContextVar[RequestContext] = ContextVar("request")


def current() -> RequestContext:
    """Return the record of the call that the running task serves; a new one where there is none, as in tests."""
    return _current.get(None) or RequestContext()


enter = _current.set
"""Make a record that of the running task; the interceptor does."""
