"""One graph: requests in, rows out. The event loop hands requests over, threads run batches of them.

``scheduler.py`` holds the rules; here are the lock, the threads and the futures. A thread takes the next batch by
itself, so between two batches nothing waits for the event loop, and turns rows into pictures where it has them, so an
answer costs one hop from thread to thread.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from stylewire.errors import BackendUnavailableError, DeadlineError, DrainingError, OverloadedError, StylewireError
from stylewire.server.engine.backends.cancellation import WAITERS
from stylewire.server.engine.batching.batch import (
    Batch,
    QueuedRequest,
    SliceResult,
    convert_slice,
    own_error,
    split,
    stack,
)
from stylewire.server.engine.batching.cost_model import CostModel
from stylewire.server.engine.batching.limits import BatchLimits
from stylewire.server.engine.batching.scheduler import Scheduler
from stylewire.server.engine.batching.spans import BatchSpans
from stylewire.server.engine_api.graphs import Arrays, BatchResult, Convert, Observer, RunBatch
from stylewire.server.tracing import CallTrace

log = logging.getLogger(__name__)

_NICE = 10
"""The event loop goes first: it is what keeps the queue full. 1.13 times the throughput at 64 px on two cores."""


class Batcher:
    """Batches calls of one graph.

    Args:
        name: for the log, such as ``avatars.synthesis``.
        run: runs one batch.
        limits: what bounds batches and the queue.
        spans: of this graph; the default knows its name only.
        costs: of batches in one instance, and of those that have the whole device, if they are known.
        clock: monotonic seconds.

    Attributes:
        scheduler: the rules and what they know; touch it under ``lock`` only.
    """

    _SPARE_THREADS = 2  # one stacks the next batch and one converts the last, while every instance is busy

    def __init__(  # noqa: PLR0913 - what it is made of, by name
        self,
        *,
        name: str,
        run: RunBatch,
        observer: Observer,
        limits: BatchLimits,
        spans: BatchSpans | None = None,
        costs: tuple[CostModel, CostModel] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._spans = spans or BatchSpans("", name, "")
        self.lock = threading.Lock()
        self.scheduler = Scheduler(name, limits, clock, costs)
        self._run, self._observer, self._clock = run, observer, clock
        self._batch_ready, self._instance_free = threading.Condition(self.lock), threading.Condition(self.lock)
        self._yields = limits.yields
        self._closed = self._hung = False
        self._loop = asyncio.get_running_loop()
        self._threads_left = limits.instances + self._SPARE_THREADS
        self._threads_gone = asyncio.Event()
        for index in range(self._threads_left):
            # Daemons: a thread that hangs inside a runtime must not keep the process alive.
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True).start()

    async def submit(
        self,
        inputs: Arrays,
        outputs: Sequence[str],
        deadline: float | None = None,
        convert: Convert | None = None,
        trace: CallTrace | None = None,
    ) -> BatchResult:
        """Run some rows, together with those of others.

        Args:
            inputs: arrays with the same leading axis; validated completely.
            outputs: names of the outputs wanted.
            deadline: on the batcher's clock; None for no limit.
            convert: makes something else of the rows, in the thread that has them.
            trace: the call that it belongs to, if that is traced.

        Raises:
            OverloadedError: the backlog is too long.
            DeadlineError: the deadline cannot be met, or passed in the queue.
            DrainingError: the batcher is closed.
            BackendUnavailableError: the graph hangs.
            BatchError: ``run`` raised for a batch that held rows of this request.
        """
        future: asyncio.Future[BatchResult] = self._loop.create_future()
        row_count = len(next(iter(inputs.values())))
        request = QueuedRequest(inputs, frozenset(outputs), row_count, deadline, self._clock(), future, convert, trace)
        with self.lock:
            self._check(lambda: self.scheduler.push(request))
            self._wake()
        try:
            return await future
        except asyncio.CancelledError:  # the caller has left
            if future.cancelled():  # and had no answer yet
                self._observer.refused("cancelled")
                with self.lock:
                    self.scheduler.cancel(request)
                    running = self.scheduler.running_with(request)
                    self._wake()
                for batch in running:
                    batch.notify_cancelled()
            raise
        finally:
            if request.trace:
                self._spans.wait(request, self._clock())

    def check(self, row_count: int, deadline: float | None = None) -> None:
        """Refuse now what ``submit`` would refuse, before its rows are made; raises as that does."""
        with self.lock:
            self._check(lambda: self.scheduler.check(row_count, deadline))

    def backlog_seconds(self) -> float:
        """Predicted time until everything is through that waits or runs."""
        with self.lock:
            return self.scheduler.backlog_seconds

    def waiting_rows(self) -> int:
        """Rows that wait, in the queue or stacked for the next batch."""
        with self.lock:
            return self.scheduler.waiting_rows

    def check_hang(self, hang_seconds: float) -> bool:
        """Say whether a batch has been running for longer than that.

        While one does, requests are refused and those that wait get an error: nothing says that they would ever run.
        """
        with self.lock:
            self._hung = self.scheduler.longest_run_seconds > hang_seconds
            waiting = self.scheduler.remove_all() if self._hung else []
        for request in waiting:
            self._refuse(request, "failed", self._hang_error())
        return self._hung

    async def close(self) -> None:
        """Finish what waits, refuse what comes, end the threads."""
        with self.lock:
            self._closed = True
            self._wake()
        await self._threads_gone.wait()

    def _wake(self) -> None:
        """Wake a thread if there is a batch for it, or all of them if they may end."""
        if self._closed:
            self._batch_ready.notify_all()
        elif self.scheduler.can_take:
            self._batch_ready.notify()

    def _check(self, admit: Callable[[], object]) -> None:
        """Ask whether a request may wait, and count it if not."""
        if self._closed:
            raise DrainingError("the server is stopping; send the request to another one")
        if self._hung:
            self._observer.refused("failed")
            raise self._hang_error()
        try:
            admit()
        except OverloadedError:
            self._observer.refused("overloaded")
            raise
        except DeadlineError:
            self._observer.refused("deadline")
            raise

    def _hang_error(self) -> BackendUnavailableError:
        return BackendUnavailableError(f"{self.name} hangs; send the request to another server")

    # --- in the threads ---

    def _work(self) -> None:
        if self._yields:  # a process of Linux's scheduler is what is called a thread here
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while batch := self._next_batch():
            WAITERS.set(batch)
            results = self._execute(batch)
            self._tell_loop(self._deliver, batch, results)
        self._tell_loop(self._thread_ended)

    def _next_batch(self) -> Batch | None:
        with self.lock:
            while True:
                batch = self.scheduler.take()
                for request in self.scheduler.pop_expired():
                    self._tell_loop(self._expire, request)
                if batch:
                    self._wake()
                if batch or (self._closed and not self.scheduler.requests):
                    return batch
                self._batch_ready.wait()

    def _execute(self, batch: Batch) -> list[SliceResult]:
        slices = batch.slices
        try:
            inputs = self._stack(batch)  # while other batches run
            with self._instance(batch):
                if len(batch.slices) < len(slices):  # somebody left while it waited for the instance
                    slices = batch.slices
                    inputs = stack(slices) if slices else {}
                outputs = self._run(inputs, batch.wanted, exclusive=batch.exclusive) if slices else {}
            return [
                convert_slice(part, rows, self._clock)
                for part, rows in zip(slices, split(slices, outputs), strict=True)
            ]
        except Exception as err:  # whatever a backend raises belongs to the callers of this batch only
            expected = isinstance(err, StylewireError)  # such as that a server elsewhere is away
            level = logging.DEBUG if expected and batch.abandoned else logging.WARNING if expected else logging.ERROR
            cause = None if expected else err
            log.log(level, "a batch of %d rows of %s failed: %s", batch.size, self.name, err, exc_info=cause)
            return [SliceResult(part, own_error(err, self.name)) for part in slices]

    def _stack(self, batch: Batch) -> Arrays:
        try:
            return stack(batch.slices)
        except Exception:
            with self.lock:
                self.scheduler.fail(batch)
                self._wake()
            raise

    @contextmanager
    def _instance(self, batch: Batch) -> Iterator[None]:
        """Wait for an instance, hold it, and learn what the batch cost."""
        with self.lock:
            while not self.scheduler.can_start(batch):
                self._instance_free.wait()
            for request in self.scheduler.start(batch):
                self._tell_loop(self._expire, request)
            self._wake()  # the next batch may be taken early now
        failed = True
        try:
            yield
            failed = False
        finally:
            with self.lock:
                self.scheduler.finish(batch, failed=failed)
                self._instance_free.notify()
                self._wake()

    def _tell_loop(self, callback: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: this thread hung and came back too late
            self._loop.call_soon_threadsafe(callback, *args)

    # --- back on the event loop ---

    def _deliver(self, batch: Batch, results: list[SliceResult]) -> None:
        if any(not isinstance(result.rows, Exception) for result in results):
            self._observer.batch(batch.size, batch.run_seconds, batch.dispatch)
        if any(part.request.trace for part, _, _ in results):
            self._spans.batch(batch, results)
        for (request, start, stop), rows, converted in results:
            if request.future.done():
                continue
            if isinstance(rows, Exception):
                self._refuse(request, "failed", rows)
                continue
            request.count(batch, converted)
            if request.add(start, rows, stop - start):
                result = request.result()
                with self.lock:
                    self.scheduler.learn(request)
                self._observer.request(result)
                request.future.set_result(result)

    def _expire(self, request: QueuedRequest) -> None:
        self._refuse(request, "expired", DeadlineError("the deadline passed while the request waited"))

    def _refuse(self, request: QueuedRequest, reason: str, err: Exception) -> None:
        if request.future.done():
            return
        with self.lock:
            self.scheduler.remove(request)
        self._observer.refused(reason)
        request.future.set_exception(err)

    def _thread_ended(self) -> None:
        self._threads_left -= 1
        if not self._threads_left:
            self._threads_gone.set()
