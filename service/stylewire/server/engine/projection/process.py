"""The process of ``worker.py`` as the server sees it: started, told a task, listened to, ended."""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

from stylewire.errors import BackendUnavailableError, InternalError, ModelNotReadyError, UnsupportedError
from stylewire.server.engine.projection.tasks import (
    HEAD_BYTES,
    Message,
    Task,
    read_found,
    read_progress,
    sizes,
    task_message,
)
from stylewire.server.engine_api.projection import Found, Progress

log = logging.getLogger(__name__)

_START_SECONDS = 300.0
"""PyTorch takes seconds to import, at a low priority on a busy machine minutes."""
_END_SECONDS = 30.0
_REFUSALS = {each.reason: each for each in (UnsupportedError, ModelNotReadyError)}


class WorkerProcess:
    """One process, with one task at a time.

    Args:
        process: started by ``start``.
        hang_seconds: after so long without a word it counts as hung.
    """

    def __init__(self, process: Process, hang_seconds: float) -> None:
        self._process, self._hang_seconds = process, hang_seconds
        self._begun = False

    @classmethod
    async def start(cls, *, device: str, threads: int, niceness: int, hang_seconds: float) -> "WorkerProcess":
        """Start a process.

        Args:
            device: what it computes on.
            threads: that it computes with.
            niceness: how much less urgent it is than the server, 0 to 19.
            hang_seconds: see above.
        """
        flags = {"--device": device, "--threads": threads, "--niceness": niceness}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "stylewire.server.engine.projection.worker",
            *(str(word) for flag in flags.items() for word in flag),
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
            start_new_session=True,  # Ctrl-C is for the server, which lets it finish
        )
        return cls(process, hang_seconds)

    @property
    def alive(self) -> bool:
        """Whether it can take a task."""
        return self._process.returncode is None

    async def run(self, task: Task, report: Callable[[Progress], None]) -> Found:
        """Do a task; whoever cancels this must call ``settle``.

        Args:
            task: what to do.
            report: told of every step.

        Raises:
            UnsupportedError: the model has no network that gradients go through.
            ModelNotReadyError: the model's directory has changed.
            BackendUnavailableError: the process ended or hangs.
            InternalError: the task failed; the log says how.
        """
        await self._tell(task_message(task))
        while True:
            message = await self._hear()
            if message.kind == "progress":
                report(read_progress(message))
            elif message.kind == "found":
                return read_found(message)
            else:
                raise _failure(message)

    async def settle(self) -> None:
        """End the task under way, so that the process is free for another one."""
        try:
            await self._tell(Message("cancel"))
            while (await self._hear()).kind == "progress":
                pass
        except BackendUnavailableError as err:  # it is dead, and was to stop anyway
            log.warning("%s", err)

    async def end(self) -> None:
        """End the process: it goes when its input ends, or is killed."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End the process at once."""
        if self.alive:
            self._process.kill()
        await self._process.wait()

    async def _tell(self, message: Message) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(message.pack())
            await stdin.drain()
        except ConnectionError as err:
            raise await self._gone() from err

    async def _hear(self) -> Message:
        stdout = self._process.stdout
        assert stdout is not None
        try:
            async with asyncio.timeout(self._hang_seconds if self._begun else max(self._hang_seconds, _START_SECONDS)):
                header_bytes, body_bytes = sizes(await stdout.readexactly(HEAD_BYTES))
                message = Message.unpack(await stdout.readexactly(header_bytes), await stdout.readexactly(body_bytes))
        except asyncio.IncompleteReadError as err:
            raise await self._gone() from err
        except TimeoutError as err:
            log.warning("a projection made no step for %g s; its process is ended", self._hang_seconds)
            await self.kill()
            raise BackendUnavailableError("the projection hung and was ended", retry_after_seconds=1.0) from err
        self._begun = True
        return message

    async def _gone(self) -> BackendUnavailableError:
        await self.kill()
        code = self._process.returncode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        log.error("the process of a projection ended %s", how)
        return BackendUnavailableError(f"the projection's process ended {how}; retry", retry_after_seconds=1.0)


def _failure(message: Message) -> Exception:
    reason, text = str(message.fields["reason"]), str(message.fields["message"])
    if reason in _REFUSALS:
        return _REFUSALS[reason](text, retry_after_seconds=1.0 if reason == ModelNotReadyError.reason else None)
    log.error("a projection failed:\n%s", text)
    return InternalError("the projection failed; the server's log says how")
