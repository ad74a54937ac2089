"""The queue of projections for one of few processes; other calls never wait here."""

import asyncio
import importlib.util
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from stylewire.errors import DeadlineError, DrainingError, OverloadedError, UnsupportedError
from stylewire.server.engine.projection.backlog import Backlog, Job
from stylewire.server.engine.projection.process import WorkerProcess
from stylewire.server.engine.projection.tasks import Task
from stylewire.server.engine_api.projection import Found, Progress
from stylewire.server.telemetry.metrics import ProjectionMetrics

T = TypeVar("T")

_PACKAGES = ("torch", "onnx")
IDLE_SECONDS = 60.0
"""A process that nobody needs is ended after so long: PyTorch and a network take hundreds of megabytes."""
_PENDING_STEPS = 64
"""Progress that a slow reader has not taken yet; older is dropped, since the projection does not wait for readers."""
_LEAST_WAIT_SECONDS = 1.0


class ProjectionSettings(Protocol):
    """The settings of projections; ``schema.py`` says what they mean."""

    @property
    def max_projections(self) -> int:
        """Number of processes at most; 0 refuses every projection."""
        ...

    @property
    def max_waiting_projections(self) -> int:
        """Projections that wait at most."""
        ...

    @property
    def projection_threads(self) -> int:
        """Threads that a process computes with."""
        ...

    @property
    def projection_niceness(self) -> int:
        """How much less urgent a process is than the server, 0 to 19."""
        ...

    @property
    def projection_device(self) -> str:
        """Device that a process computes on."""
        ...

    @property
    def hang_seconds(self) -> float:
        """Seconds after which a step counts as hung."""
        ...


class Projector:
    """Runs projections in processes of their own. All methods belong to the event loop.

    Args:
        settings: how many at once, and how.
        metrics: where they are counted.

    Attributes:
        workers: the processes that run.
    """

    def __init__(self, settings: ProjectionSettings, metrics: ProjectionMetrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._places = asyncio.Semaphore(settings.max_projections)
        self._backlog = Backlog(max(1, settings.max_projections))
        self._idle: list[WorkerProcess] = []
        self.workers: set[WorkerProcess] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self._retirement: asyncio.TimerHandle | None = None
        self._closed = False

    def check(self, digest: str, step_count: int, deadline: float | None) -> None:
        """Raise where a projection could not be done.

        Args:
            digest: of the model.
            step_count: of the projection.
            deadline: on the monotonic clock; None for no limit.

        Raises:
            UnsupportedError: the server makes none, or lacks a package.
            OverloadedError: too many wait.
            DeadlineError: as far as is known, it cannot be done in time.
            DrainingError: the server stops.
        """
        if not self._settings.max_projections:
            raise UnsupportedError("this server makes no projections: its --max-projections is 0")
        if missing := [package for package in _PACKAGES if not _installed(package)]:
            raise UnsupportedError(
                f"projections need packages that this server does not have ({', '.join(missing)}): "
                "pip install 'stylewire[torch]' there"
            )
        if self._closed:
            raise DrainingError("the server is stopping; send the request to another one")
        waiting = self._backlog.waiting
        if self._backlog.full and waiting >= self._settings.max_waiting_projections:
            self._metrics.ended("overloaded")
            wait = max(_LEAST_WAIT_SECONDS, self._backlog.next_end_seconds())
            raise OverloadedError(f"{waiting} projections wait, the most that may", retry_after_seconds=wait)
        needed = self._backlog.predict(digest, step_count)
        if deadline is not None and time.monotonic() + needed > deadline:
            self._metrics.ended("deadline")
            raise DeadlineError(
                f"{step_count} steps would be done in {needed:.1f} s, after the deadline: ask for fewer or wait longer"
            )

    async def project(self, task: Task, deadline: float | None) -> AsyncGenerator[Progress | Found]:
        """Do a task; yield its steps, as far as the reader keeps up, then what was found.

        Closing the generator ends the task.

        Args:
            task: what to do.
            deadline: on the monotonic clock; None for no limit.

        Raises:
            StylewireError: as ``check`` and ``WorkerProcess.run``.
        """
        self.check(task.digest, task.step_count, deadline)
        pending: deque[Progress] = deque(maxlen=_PENDING_STEPS)
        news = asyncio.Event()

        def report(progress: Progress) -> None:
            pending.append(progress)
            news.set()

        job = self._backlog.add(task.digest, task.step_count)  # not in the task, before which others may check
        running = self._hold(self._run(task, job, report, deadline))
        running.add_done_callback(lambda _: self._backlog.remove(job))
        running.add_done_callback(lambda _: news.set())
        try:
            while not running.done():
                await news.wait()
                news.clear()
                while pending:
                    yield pending.popleft()
            while pending:
                yield pending.popleft()
            yield await running
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def close(self) -> None:
        """Kill all processes, and wait for what they did."""
        self._closed = True
        if self._retirement:
            self._retirement.cancel()
        await asyncio.gather(*(worker.kill() for worker in self.workers))
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, task: Task, job: Job, report: Callable[[Progress], None], deadline: float | None) -> Found:
        with self._counted():
            with self._metrics.waiting.track_inprogress():
                await self._places.acquire()
            try:
                if deadline is not None and time.monotonic() > deadline:
                    raise DeadlineError("the deadline passed while the projection waited")
                with self._metrics.running.track_inprogress():
                    return await self._run_in_process(task, job, report)
            finally:
                self._places.release()

    async def _run_in_process(self, task: Task, job: Job, report: Callable[[Progress], None]) -> Found:
        def observe(progress: Progress) -> None:
            seconds = job.stepped(progress.step, time.monotonic())
            if seconds is not None:
                self._metrics.step(seconds)
            report(progress)

        worker, clean = self._take(), True
        try:
            return await worker.run(task, observe)
        except asyncio.CancelledError:
            job.steps_left, clean = 0, False
            await worker.settle()
            clean = True
            raise
        finally:
            self._release(worker, clean=clean)

    def _take(self) -> WorkerProcess:
        """Take a process that has nothing to do, or start one.

        Raises:
            DrainingError: the server stops.
        """
        if self._retirement:
            self._retirement.cancel()
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._discard(worker)
        if self._closed:
            raise DrainingError("the server is stopping; send the request to another one")
        settings = self._settings
        worker = WorkerProcess(
            device=settings.projection_device,
            threads=settings.projection_threads,
            niceness=settings.projection_niceness,
            hang_seconds=settings.hang_seconds,
        )
        self.workers.add(worker)
        return worker

    def _release(self, worker: WorkerProcess, *, clean: bool) -> None:
        if clean and worker.alive:
            self._idle.append(worker)
            loop = asyncio.get_running_loop()
            self._retirement = loop.call_later(IDLE_SECONDS, self._retire)
        else:
            self._discard(worker)

    def _discard(self, worker: WorkerProcess) -> None:
        self.workers.discard(worker)
        self._hold(worker.kill())

    def _retire(self) -> None:
        """End the processes that nobody has needed for a while."""
        while self._idle:
            worker = self._idle.pop()
            self.workers.discard(worker)
            self._hold(worker.end())

    def _hold(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Start a task that must not be lost when nobody waits for it any more."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it has it; if nobody did, nobody needs it

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count how a projection ends."""
        result = "failed"
        try:
            yield
            result = "done"
        except asyncio.CancelledError:
            result = "cancelled"
            raise
        except DeadlineError:
            result = "deadline"
            raise
        finally:
            self._metrics.ended(result)


def _installed(package: str) -> bool:
    """Whether a package can be imported; not imported here, since it is for another process."""
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False
