"""The process of ``worker.py`` as the server sees it: started, given a task, listened to, ended."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from stylewire.errors import BackendUnavailableError, InternalError, ModelNotReadyError, UnsupportedError
from stylewire.server.child_process import ChildError, ChildProcess
from stylewire.server.engine.projection.tasks import Cancel, Cancelled, Failed, Task, WorkerOptions
from stylewire.server.engine_api.projection import Found, Progress

log = logging.getLogger(__name__)

_START_SECONDS = 300.0
"""PyTorch takes seconds to import, at a low priority on a busy machine minutes."""
_END_SECONDS = 30.0
_REFUSALS = {each.reason: each for each in (UnsupportedError, ModelNotReadyError)}


class WorkerProcess:
    """One process, with one task at a time. All methods belong to the event loop.

    Args:
        device: that it computes on.
        threads: that it computes with.
        niceness: how much less urgent it is than the server, 0 to 19.
        hang_seconds: after so long without a message it counts as hung.

    Attributes:
        hang_seconds: as above.
    """

    def __init__(self, *, device: str, threads: int, niceness: int, hang_seconds: float) -> None:
        self.hang_seconds = hang_seconds
        self._child = ChildProcess(
            "stylewire.server.engine.projection.worker",
            (Progress, Found, Failed, Cancelled),
            niceness=niceness,
            environment={"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
        )
        self._options: WorkerOptions | None = WorkerOptions(device, threads)  # until they are sent
        self._task_sent = threading.Event()
        self._end: asyncio.Future[Found | Failed | Cancelled] | None = None

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """How the process ended, as in ``ChildProcess``; None while it runs."""
        return self._child.exit_code

    @property
    def alive(self) -> bool:
        """Whether it can take a task."""
        return self._child.alive

    async def run(self, task: Task, report: Callable[[Progress], None]) -> Found:
        """Do a task; whoever cancels this must call ``settle``.

        Args:
            task: what to do.
            report: called for every step.

        Raises:
            UnsupportedError: the model has no network that gradients go through.
            ModelNotReadyError: the model's directory has changed.
            BackendUnavailableError: the process ended or hangs.
            InternalError: the task failed; the log says how.
        """
        loop = asyncio.get_running_loop()
        self._task_sent.clear()
        self._end = asyncio.wrap_future(
            _in_thread(lambda: self._converse(task, lambda progress: loop.call_soon_threadsafe(report, progress)))
        )
        end = await self._wait_end()
        if isinstance(end, Failed):
            raise _failure(end)
        assert isinstance(end, Found)
        return end

    async def settle(self) -> None:
        """Cancel the task in flight, and wait for its end, so that the process is free for another one."""
        try:
            await asyncio.to_thread(self._cancel)
            await self._wait_end()
        except BackendUnavailableError as err:  # it is dead, and was to stop anyway
            log.warning("%s", err)

    async def end(self) -> None:
        """End the process that has nothing to do; kill it if it does not end."""
        await asyncio.to_thread(self._child.close, _END_SECONDS)

    async def kill(self) -> None:
        """Kill the process, and wait until it has ended."""
        self._child.kill()
        if self._end:
            await asyncio.wait([self._end])
        await asyncio.to_thread(self._child.close)

    async def _wait_end(self) -> Found | Failed | Cancelled:
        """Wait for the last message of the task in flight.

        Raises:
            BackendUnavailableError: the process ended or hangs.
        """
        assert self._end
        try:
            return await asyncio.shield(self._end)
        except ChildError as err:
            if err.timed_out:
                log.warning("a projection made no step for %g s; its process is ended", self.hang_seconds)
                raise BackendUnavailableError("the projection hung and was ended", retry_after_seconds=1.0) from err
            log.error("the process of a projection %s", err)  # noqa: TRY400 - the traceback is the server's
            raise BackendUnavailableError(f"the projection's process {err}; retry", retry_after_seconds=1.0) from err

    def _converse(self, task: Task, report: Callable[[Progress], object]) -> Found | Failed | Cancelled:
        """Send a task, and receive messages until its last one; in a thread."""
        try:
            with self._child.limit(max(self.hang_seconds, _START_SECONDS) if self._options else self.hang_seconds):
                if self._options:
                    self._child.send(self._options)
                self._child.send(task)
                self._task_sent.set()
                message = self._child.receive()
            self._options = None
            while isinstance(message, Progress):
                report(message)
                with self._child.limit(self.hang_seconds):
                    message = self._child.receive()
            end: Found | Failed | Cancelled = message
            return end
        finally:
            self._task_sent.set()

    def _cancel(self) -> None:
        """Send the cancellation, after its task; in a thread."""
        self._task_sent.wait()
        try:
            self._child.send(Cancel())
        except OSError:  # it is dead, and ``_wait_end`` says why
            log.debug("the process of a cancelled projection has ended")


def _in_thread(work: Callable[[], Found | Failed | Cancelled]) -> "Future[Found | Failed | Cancelled]":
    """Do something in a thread that does not keep the server from ending."""
    future: Future[Found | Failed | Cancelled] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as err:  # noqa: BLE001 - whoever waits for the future gets it
            future.set_exception(err)

    threading.Thread(target=run, name="projection", daemon=True).start()
    return future


def _failure(failed: Failed) -> Exception:
    if failed.reason in _REFUSALS:
        retry_seconds = 1.0 if failed.reason == ModelNotReadyError.reason else None
        return _REFUSALS[failed.reason](failed.message, retry_after_seconds=retry_seconds)
    log.error("a projection failed:\n%s", failed.message)
    return InternalError("the projection failed; the server's log says how")
