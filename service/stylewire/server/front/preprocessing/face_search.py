"""Photos whose face is still to be found -> photos that an encoder takes. Has processes and a queue of its own.

A search takes tenths of a second, hence it waits for other searches only, and nothing waits for it.
"""

import asyncio
import logging
import queue
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from stylewire.errors import (
    BackendUnavailableError,
    DeadlineError,
    InvalidFieldError,
    NoFaceError,
    OverloadedError,
    StylewireError,
    Violation,
)
from stylewire.server import tracing
from stylewire.server.config.settings import SettingError, Settings
from stylewire.server.front.pipeline import jobs
from stylewire.server.front.pipeline.results import Run
from stylewire.server.front.preprocessing.face_search_process import (
    Found,
    Limits,
    Problem,
    Question,
    Reply,
    SearchError,
    SearchProcess,
)
from stylewire.server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

J = TypeVar("J")

_FIRST_GUESS_SECONDS = 0.3
"""What a search takes, until one has been seen."""
_MEMORY = 0.8
"""Share of the old mean in the new one."""


class Faces:
    """Looks for faces. All methods belong to the event loop.

    Args:
        settings: of the server.
        metrics: counts what was found.

    Raises:
        SettingError: there is no such landmark model.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        model = settings.landmark_model
        if model and not model.is_file():
            raise SettingError(f"--landmark-model {model}: there is no such file")
        limits = Limits(model, settings.face_search_px, settings.max_image_bytes, settings.max_image_pixels)
        self._processes = [SearchProcess(limits) for _ in range(settings.face_searches)]
        self._idle: queue.LifoQueue[SearchProcess] = queue.LifoQueue()
        for process in self._processes:
            self._idle.put(process)
        self._executor = ThreadPoolExecutor(settings.face_searches, thread_name_prefix="faces")
        self._metrics, self._settings = metrics, settings
        self._under_way, self._mean_seconds = 0, _FIRST_GUESS_SECONDS

    async def settle(self, job: J, run: Run) -> J:
        """Find the faces of a job, one after the other: so others come between those of a large request.

        Returns:
            The job with photos that are ready.

        Raises:
            NoFaceError: there is none in one of the pictures.
            InvalidFieldError: one of the pictures is damaged.
            OverloadedError: too many searches wait.
            DeadlineError: the search would end after the deadline.
            BackendUnavailableError: the search failed.
        """
        return cast("J", await self._settled(job, run))

    def close(self) -> None:
        """End the processes; blocks for a moment."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
        self._executor.shutdown()
        for process in self._processes:
            process.close()

    async def _settled(self, part: Any, run: Run) -> Any:
        if isinstance(part, jobs.UnalignedPhoto):
            return await self._align(part, run)
        if isinstance(part, tuple):
            return await self._settled_all(part, run)
        if not is_dataclass(part) or isinstance(part, type):
            return part
        old = {each.name: getattr(part, each.name) for each in fields(part)}
        new = await self._settled_all(tuple(old.values()), run)
        changed = {name: value for name, value in zip(old, new, strict=True) if value is not old[name]}
        return replace(part, **changed) if changed else part

    async def _settled_all(self, parts: Sequence[Any], run: Run) -> Sequence[Any]:
        new = tuple([await self._settled(each, run) for each in parts])
        return new if any(one is not other for one, other in zip(new, parts, strict=True)) else parts

    async def _align(self, photo: jobs.UnalignedPhoto, run: Run) -> jobs.Photo:
        self._admit(run)
        self._under_way += 1
        asked = time.monotonic()
        question = Question(photo.content, photo.art, photo.encoder)
        try:
            # A search that has not begun when the caller leaves is dropped with the task.
            began, ended, reply = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._search, question, run.deadline
            )
        except SearchError as err:
            self._metrics.faces.labels(photo.art, "failed").inc()
            log.error("%s", err)  # noqa: TRY400 - the traceback is ours, not that of the process
            raise BackendUnavailableError(f"{photo.path}: {err}; try again, or send landmarks") from err
        finally:
            self._under_way -= 1
        self._note(photo, run, (asked, began, ended), reply)
        if isinstance(reply, Problem):
            raise _refusal(photo.path, reply)
        return jobs.Photo(model=photo.model, graph=photo.graph, kind=photo.kind, input=reply.input, face=reply.face)

    def _admit(self, run: Run) -> None:
        wait = self._under_way // self._settings.face_searches * self._mean_seconds
        if wait > self._settings.max_queue_seconds:
            raise OverloadedError(f"{self._under_way} pictures wait for the search for faces", retry_after_seconds=wait)
        if run.deadline is not None and time.monotonic() + wait > run.deadline:
            raise DeadlineError(f"the search for faces would begin in {wait:.1f} s, after the deadline")

    def _search(self, question: Question, deadline: float | None) -> tuple[float, float, Reply]:
        """Ask an idle process, in a thread: there are as many of both."""
        began = time.monotonic()
        if deadline is not None and began > deadline:
            raise DeadlineError("the deadline passed before the search for faces began")
        process = self._idle.get()
        try:
            reply = process.ask(question, self._settings.hang_seconds)
            return began, time.monotonic(), reply
        finally:
            self._idle.put(process)

    def _note(self, photo: jobs.UnalignedPhoto, run: Run, times: tuple[float, float, float], reply: Reply) -> None:
        asked, began, ended = times
        self._mean_seconds = self._mean_seconds * _MEMORY + (ended - began) * (1 - _MEMORY)
        run.queue_seconds += began - asked
        run.encoding_seconds += ended - began
        tracing.phase("queue", asked, began)
        tracing.phase("detect", began, ended)
        result = "none"
        if isinstance(reply, Found):
            result = "one" if reply.face.count == 1 else "several"
        elif reply.damaged:
            result = "failed"
        self._metrics.faces.labels(photo.art, result).inc()
        self._metrics.search.labels(photo.art).observe(ended - began)


def _refusal(path: str, problem: Problem) -> StylewireError:
    if problem.damaged:
        return InvalidFieldError.of([Violation(f"{path}.content", problem.message)])
    return NoFaceError(
        f"{path}: {problem.message}; send one that shows a face upright, as it is without its EXIF orientation, or "
        "landmarks, or set no alignment"
    )
