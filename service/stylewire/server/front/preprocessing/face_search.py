"""The stage of the pipeline that aligns photos: it finds a face in a process of its own, behind a queue of its own.

A search takes tenths of a second, hence it waits for other searches only, and nothing waits for it.
"""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from stylewire.errors import (
    BackendUnavailableError,
    DeadlineError,
    InvalidFieldError,
    NoFaceError,
    OverloadedError,
    StylewireError,
    Violation,
)
from stylewire.server.config.settings import SettingError, Settings
from stylewire.server.context import RequestContext, off_loop
from stylewire.server.front.preprocessing.face_search_process import (
    Found,
    Limits,
    Problem,
    Question,
    Reply,
    SearchError,
    SearchProcess,
)
from stylewire.server.front.preprocessing.photos import AlignedPhoto, Photo, UnalignedPhoto
from stylewire.server.running_mean import RunningMean
from stylewire.server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_FIRST_GUESS_SECONDS = 0.3
"""What a search takes, until one has been seen."""


class Aligner:
    """Aligns photos by the faces in them. All methods belong to the event loop.

    Args:
        settings: of the server.
        metrics: counts what was found.
        start: makes a process that searches; it starts with its first search.

    Attributes:
        processes: that search.

    Raises:
        SettingError: there is no such landmark model.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, start: Callable[[Limits], SearchProcess] = SearchProcess
    ) -> None:
        model = settings.landmark_model
        if model and not model.is_file():
            raise SettingError(f"--landmark-model {model}: there is no such file")
        limits = Limits(model, settings.face_search_px, settings.max_image_bytes, settings.max_image_pixels)
        self.processes = [start(limits) for _ in range(settings.face_searches)]
        self._idle: queue.LifoQueue[SearchProcess] = queue.LifoQueue()
        for process in self.processes:
            self._idle.put(process)
        self._executor = ThreadPoolExecutor(settings.face_searches, thread_name_prefix="faces")
        self._metrics, self._settings = metrics, settings
        self._in_flight, self._cost = 0, RunningMean(_FIRST_GUESS_SECONDS)

    @property
    def in_flight(self) -> int:
        """Photos that are searched, or wait for it."""
        return self._in_flight

    async def align(self, photos: Sequence[Photo], call: RequestContext) -> list[AlignedPhoto]:
        """Find the faces of photos, one after the other: so others come between those of a large request.

        Raises:
            NoFaceError: there is none in one of the photos.
            InvalidFieldError: one of the photos is damaged.
            OverloadedError: too many searches wait.
            DeadlineError: the search would end after the deadline.
            BackendUnavailableError: the search failed.
        """
        return [await self._align(each, call) if isinstance(each, UnalignedPhoto) else each for each in photos]

    def close(self) -> None:
        """End the processes; blocks for a moment."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in self.processes:
            process.kill()
        self._executor.shutdown()
        for process in self.processes:
            process.close()

    async def _align(self, photo: UnalignedPhoto, call: RequestContext) -> AlignedPhoto:
        self._admit(call)
        self._in_flight += 1
        asked = time.monotonic()
        question = Question(photo.content, photo.art, photo.encoder)
        try:
            # A search that has not begun when the caller leaves is dropped with the task.
            began, ended, reply = await off_loop(self._executor, self._search, question, call.deadline)
        except SearchError as err:
            self._metrics.faces.labels(photo.art, "failed").inc()
            log.error("%s", err)  # noqa: TRY400 - the traceback is ours, not that of the process
            raise BackendUnavailableError(f"{photo.path}: {err}; try again, or send landmarks") from err
        finally:
            self._in_flight -= 1
        self._note(photo, call, (asked, began, ended), reply)
        if isinstance(reply, Problem):
            raise _refusal(photo.path, reply)
        return AlignedPhoto(model=photo.model, graph=photo.graph, kind=photo.kind, input=reply.input, face=reply.face)

    def _admit(self, call: RequestContext) -> None:
        wait = self._in_flight // self._settings.face_searches * self._cost.seconds
        if wait > self._settings.max_queue_seconds:
            raise OverloadedError(f"{self._in_flight} pictures wait for the search for faces", retry_after_seconds=wait)
        if call.deadline is not None and time.monotonic() + wait > call.deadline:
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

    def _note(
        self, photo: UnalignedPhoto, call: RequestContext, times: tuple[float, float, float], reply: Reply
    ) -> None:
        asked, began, ended = times
        self._cost.learn(ended - began)
        call.timings.queue_seconds += began - asked
        call.timings.encoding_seconds += ended - began
        call.phase("queue", asked, began)
        call.phase("detect", began, ended)
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
