"""One graph, one queue, one worker: rows of different requests run as one batch, without a timer.

When the worker is free it takes what waits, a row of every request in turn, up to the largest batch. An idle server
adds no latency, and load makes batches grow by itself. A request is refused at the door when the backlog is too long
or its deadline cannot be met; one whose caller has left, or whose deadline has passed, is dropped before it runs.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeAlias

from stylewire.errors import DeadlineError, DrainingError, OverloadedError, StylewireError
from stylewire.server.backends import Arrays
from stylewire.server.batches import BatchError, BatchResult, Entry, Share, batch_size, join, split, stack
from stylewire.server.costs import CostModel

log = logging.getLogger(__name__)

Runner: TypeAlias = Callable[[Arrays, Sequence[str]], Arrays]


class Observer(Protocol):
    """Told of everything that happens; see ``stylewire.server.metrics``."""

    def batch(self, size: int, seconds: float) -> None:
        """Note that a batch ran."""
        ...

    def entry(self, result: BatchResult) -> None:
        """Note that a request got its rows."""
        ...

    def refused(self, reason: str) -> None:
        """Note that a request got none: ``overloaded``, ``deadline``, ``expired``, ``cancelled``, ``failed``."""
        ...

    def depth(self, rows: int) -> None:
        """Note how many rows wait."""
        ...


class Batcher:
    """Batches calls of one graph.

    Args:
        name: for the log, such as ``avatars.synthesis``.
        run: runs one batch; called in a thread of the batcher, one call at a time.
        max_batch_size: rows in the largest batch.
        max_queue_seconds: predicted backlog at which requests are refused.
        clock: monotonic seconds; tests give their own.
    """

    def __init__(  # noqa: PLR0913 - all by keyword, each one independent
        self,
        *,
        name: str,
        run: Runner,
        observer: Observer,
        max_batch_size: int,
        max_queue_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.costs = CostModel()
        self._run = run
        self._observer = observer
        self._max_batch_size = max_batch_size
        self._max_queue_seconds = max_queue_seconds
        self._clock = clock
        self._entries: deque[Entry] = deque()
        self._waiting_rows = 0
        self._running_until = 0.0
        self._arrived = asyncio.Event()
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"batch-{name}")
        self._worker = asyncio.create_task(self._work(), name=f"batcher {name}")

    async def submit(self, inputs: Arrays, outputs: Sequence[str], deadline: float | None = None) -> BatchResult:
        """Run some rows, together with those of others.

        Args:
            inputs: arrays with the same leading axis; checked by the caller, completely.
            outputs: names of the outputs wanted.
            deadline: on the batcher's clock; None for no limit.

        Raises:
            OverloadedError: the backlog is too long.
            DeadlineError: the deadline cannot be met, or passed in the queue.
            DrainingError: the batcher is closed.
            BatchError: ``run`` raised for a batch that held rows of this request.
        """
        row_count = len(next(iter(inputs.values())))
        self._admit(row_count, deadline)
        future: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()
        shapes = tuple(array.shape[1:] for array in inputs.values())
        self._entries.append(Entry(inputs, frozenset(outputs), row_count, deadline, self._clock(), future, shapes))
        self._waiting_rows += row_count
        self._arrived.set()
        self._observer.depth(self._waiting_rows)
        return await future  # cancelling the caller cancels the future, which drops the entry

    def backlog_seconds(self) -> float:
        """Predicted time until the worker is through with everything that waits or runs."""
        running = max(0.0, self._running_until - self._clock())
        return running + self.costs.predict_rows(self._waiting_rows, self._max_batch_size)

    async def close(self) -> None:
        """Finish what waits, refuse what comes, free the thread."""
        self._closed = True
        self._arrived.set()
        await self._worker
        self._executor.shutdown()

    def _admit(self, row_count: int, deadline: float | None) -> None:
        if self._closed:
            raise DrainingError("the server is stopping; send the request to another one")
        backlog = self.backlog_seconds()
        if backlog > self._max_queue_seconds:
            self._observer.refused("overloaded")
            raise OverloadedError(
                f"the backlog of {self.name} is {backlog:.2f} s, more than {self._max_queue_seconds:g} s; retry later",
                retry_after_seconds=max(0.0, backlog - self._max_queue_seconds / 2),
            )
        if deadline is not None:
            own = self.costs.predict_rows(row_count, self._max_batch_size)
            if self._clock() + backlog + own > deadline:
                self._observer.refused("deadline")
                raise DeadlineError(
                    f"the deadline cannot be met: {self.name} needs {backlog + own:.3f} s from now; allow more time"
                )

    async def _work(self) -> None:
        while True:
            batch = self._compose()
            if batch:
                await self._run_batch(batch)
            elif self._closed:
                return
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _compose(self) -> list[Share]:
        """Take a row of every waiting entry in turn until the batch is full or nobody waits."""
        self._drop_dead()
        if not self._entries:
            return []
        shapes = self._entries[0].shapes  # shapes never mix: such as stored noise and drawn noise
        first = list(itertools.islice((e for e in self._entries if e.shapes == shapes), self._max_batch_size))
        counts = dict.fromkeys(first, 0)
        room = self._max_batch_size
        while room and (hungry := [entry for entry in first if counts[entry] < entry.left]):
            for entry in hungry[:room]:
                counts[entry] += 1
            room -= min(room, len(hungry))
        shares = [Share(entry, entry.taken, entry.taken + count) for entry, count in counts.items() if count]
        self._take(shares)
        return shares

    def _take(self, shares: list[Share]) -> None:
        for share in shares:
            share.entry.taken = share.stop
            self._waiting_rows -= share.stop - share.start
        # Entries with rows left go to the end, so that those behind them come first into the next batch.
        served = dict.fromkeys(share.entry for share in shares)
        waiting = [entry for entry in self._entries if entry not in served]
        self._entries = deque(waiting + [entry for entry in served if entry.left])
        self._observer.depth(self._waiting_rows)

    def _drop_dead(self) -> None:
        now, alive = self._clock(), deque[Entry]()
        for entry in self._entries:
            if entry.future.done():
                self._observer.refused("cancelled" if entry.future.cancelled() else "failed")
            elif entry.deadline is not None and entry.deadline <= now:
                self._observer.refused("expired")
                entry.future.set_exception(DeadlineError("the deadline passed while the request waited"))
            else:
                alive.append(entry)
                continue
            self._waiting_rows -= entry.left
        self._entries = alive

    async def _run_batch(self, batch: list[Share]) -> None:
        size = batch_size(batch)
        started = self._clock()
        self._running_until = started + self.costs.predict(size)
        loop = asyncio.get_running_loop()
        try:
            parts = await loop.run_in_executor(self._executor, self._stack_run_split, batch)
        except Exception as err:  # noqa: BLE001 - whatever a backend raises belongs to the callers of this batch only
            self._fail(batch, err)
            return
        finally:
            self._running_until = 0.0
        seconds = self._clock() - started
        self.costs.learn(size, seconds)
        self._observer.batch(size, seconds)
        for share, rows in zip(batch, parts, strict=True):
            self._deliver(share.entry, rows, started, seconds, size)

    def _stack_run_split(self, batch: list[Share]) -> list[Arrays]:
        wanted = sorted(frozenset[str]().union(*(share.entry.wanted for share in batch)))
        outputs = self._run(stack(batch), wanted)
        return list(split(batch, outputs))

    def _fail(self, batch: list[Share], err: Exception) -> None:
        log.error("a batch of %d rows of %s failed", batch_size(batch), self.name, exc_info=err)
        for share in batch:
            if share.entry.future.done():
                continue
            if not share.entry.left:  # one with rows left is counted when it is dropped from the queue
                self._observer.refused("failed")
            if isinstance(err, StylewireError):
                share.entry.future.set_exception(err)
            else:  # each caller gets an exception of its own: they are raised, and changed, in different tasks
                own = BatchError(f"a batch of {self.name} failed")
                own.__cause__ = err
                share.entry.future.set_exception(own)

    def _deliver(self, entry: Entry, rows: Arrays, started: float, seconds: float, size: int) -> None:
        entry.started = started if entry.started is None else entry.started
        entry.run_seconds += seconds
        entry.batch_size = max(entry.batch_size, size)
        entry.parts.append(rows)
        if entry.left:
            return
        if entry.future.done():
            self._observer.refused("cancelled")  # its caller left while its last rows ran
            return
        waited = entry.started - entry.submitted
        result = BatchResult(join(entry.parts), waited, entry.run_seconds, entry.batch_size)
        self._observer.entry(result)
        entry.future.set_result(result)
