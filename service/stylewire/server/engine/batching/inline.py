"""A graph that costs less than handing it to a thread: run on the event loop, by the call that wants it."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from stylewire.errors import DrainingError, StylewireError
from stylewire.server.engine.batching.batch import join
from stylewire.server.engine.batching.spans import BatchSpans
from stylewire.server.engine_api.graphs import (
    Arrays,
    BatchError,
    BatchResult,
    Convert,
    Dispatch,
    Observer,
    RunBatch,
)
from stylewire.server.tracing import CallTrace

log = logging.getLogger(__name__)

MAX_SECONDS = 0.5e-3
"""Longest run of the largest batch. A hop to a thread and back costs about 0.1 ms; the loop must not wait for more."""


class Inline:
    """Runs one graph on the event loop. A ``GraphRunner`` without a queue: nobody ever waits.

    Args:
        name: for errors and the log, such as ``avatars.mapping``.
        run: runs one batch.
        max_batch_size: rows that run at once; the loop has its turn between two batches.
        spans: of this graph; the default knows its name only.
        clock: monotonic seconds.
    """

    def __init__(  # noqa: PLR0913 - what it is made of, by name
        self,
        *,
        name: str,
        run: RunBatch,
        observer: Observer,
        max_batch_size: int,
        spans: BatchSpans | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._spans = spans or BatchSpans("", name, "")
        self._run, self._observer, self._clock = run, observer, clock
        self._max_batch_size = max_batch_size
        self._closed = False

    async def submit(
        self,
        inputs: Arrays,
        outputs: Sequence[str],
        deadline: float | None = None,
        convert: Convert | None = None,
        trace: CallTrace | None = None,
    ) -> BatchResult:
        """Run some rows; see ``Batcher.submit``.

        Raises:
            DrainingError: it is closed.
            BatchError: ``run`` raised.
        """
        row_count = len(next(iter(inputs.values())))
        self.check(row_count, deadline)
        parts, spent, size = list[Arrays](), 0.0, min(row_count, self._max_batch_size)
        for start in range(0, row_count, size):
            if start:
                await asyncio.sleep(0)
            rows = {name: array[start : start + size] for name, array in inputs.items()}
            part, seconds = self._run_rows(rows, min(size, row_count - start), outputs, trace)
            parts.append(part)
            spent += seconds
        joined = join(parts)
        result = BatchResult({} if convert else joined, convert(joined, 0) if convert else [], 0.0, spent, 0.0, size)
        self._observer.request(result)
        return result

    def check(self, row_count: int, deadline: float | None = None) -> None:  # noqa: ARG002 - nothing waits
        """Refuse now what ``submit`` would refuse."""
        if self._closed:
            raise DrainingError("the server is stopping; send the request to another one")

    def backlog_seconds(self) -> float:
        """Nothing ever waits."""
        return 0.0

    def waiting_rows(self) -> int:
        """Nothing ever waits."""
        return 0

    def check_hang(self, hang_seconds: float) -> bool:  # noqa: ARG002 - nothing runs
        """Whoever asks has the event loop, so nothing runs."""
        return False

    async def close(self) -> None:
        """Refuse what comes."""
        self._closed = True

    def _run_rows(
        self, rows: Arrays, count: int, outputs: Sequence[str], trace: CallTrace | None
    ) -> tuple[Arrays, float]:
        """Run one batch; returns its outputs and how long it took."""
        started, error = self._clock(), ""
        try:
            part = self._run(rows, outputs, exclusive=False)
        except Exception as err:
            error = type(err).__name__
            self._observer.refused("failed")
            if isinstance(err, StylewireError):
                raise
            log.exception("a batch of %s failed", self.name)
            raise BatchError(f"a batch of {self.name} failed") from err
        finally:
            ended = self._clock()
            if trace:
                self._spans.run(trace, (started, ended), count, error)
        self._observer.batch(count, ended - started, Dispatch.IDLE)
        return part, ended - started
