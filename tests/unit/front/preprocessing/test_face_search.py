"""The queue of searches: who waits, who is refused, who is dropped. The processes are stand-ins."""

import asyncio
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from stylewire.errors import BackendUnavailableError, DeadlineError, InvalidFieldError, NoFaceError, OverloadedError
from stylewire.manifest import EncoderInfo
from stylewire.server.config.settings import SettingError, Settings
from stylewire.server.context import RequestContext
from stylewire.server.front.preprocessing.face_detectors import Face
from stylewire.server.front.preprocessing.face_search import Aligner
from stylewire.server.front.preprocessing.face_search_process import Found, Problem, SearchError
from stylewire.server.front.preprocessing.photos import AlignedPhoto, UnalignedPhoto
from stylewire.server.telemetry.metrics import Metrics

ENCODER = EncoderInfo(
    graph="encoder", task="encode", input_kind="photo", input_channels=3, input_height_px=8, input_width_px=8
)
FOUND = Found(Face(1, (1.0, 2.0, 3.0, 4.0)), np.ones((3, 8, 8), np.float32))


class Process:
    """Answers what it is told to, when it is told to."""

    def __init__(self, limits):
        self.asked = []
        self.answer = FOUND
        self.go_on = threading.Event()
        self.go_on.set()
        self.ended = False

    def ask(self, question, seconds):
        self.asked.append(question.content)
        assert self.go_on.wait(60)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def kill(self):
        self.ended = True

    def close(self):
        pass


@pytest.fixture
def finder():
    """An ``Aligner`` with one process, and its metrics."""
    metrics, processes = Metrics(), []

    def start(limits):
        processes.append(Process(limits))
        return processes[-1]

    made = Aligner(Settings(max_queue_seconds=2.0), metrics, start)
    (process,) = processes

    async def align(photo, call):
        (aligned,) = await made.align([photo], call)
        return aligned

    yield SimpleNamespace(
        align=align,
        process=process,
        aligner=made,
        sample=lambda name, **labels: metrics.registry.get_sample_value(name, labels),
    )
    process.go_on.set()
    made.close()
    assert process.ended


def photo(content=b"1", path="image", art="face"):
    model = SimpleNamespace(name="avatars")
    return UnalignedPhoto(
        model=model, graph="encoder", kind="photo", path=path, content=content, art=art, encoder=ENCODER
    )


def run(seconds=None):
    call = RequestContext()
    call.limit(seconds)
    return call


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for is in other threads
            await asyncio.sleep(0.005)


def test_every_photo_is_aligned_in_its_place(finder):
    """Photos come back in their order; one that needs no search is left as it is."""
    ready = AlignedPhoto(model=None, graph="encoder", kind="photo", input=FOUND.input)
    aligned = asyncio.run(finder.aligner.align([photo(b"1"), ready, photo(b"2")], run()))

    assert [b"1", b"2"] == finder.process.asked
    assert [FOUND.face, None, FOUND.face] == [each.face for each in aligned]
    assert all(each.input is FOUND.input for each in aligned)
    assert aligned[1] is ready


@pytest.mark.parametrize(
    ("answer", "error", "text", "result"),
    [
        pytest.param(
            Problem("nobody"), NoFaceError, "latents[1].image: nobody; send one that shows", "none", id="none"
        ),
        pytest.param(
            Problem("damaged", damaged=True), InvalidFieldError, "latents[1].image.content: damaged", "failed", id="bad"
        ),
        pytest.param(SearchError("it hung"), BackendUnavailableError, "it hung; try again", "failed", id="hung"),
    ],
)
def test_failed_search_says_whose_it_was(finder, answer, error, text, result):
    """No face, a damaged file and a process that ended are three errors with the picture's path; all are counted."""
    finder.process.answer = answer
    with pytest.raises(error, match="image") as raised:
        asyncio.run(finder.align(photo(path="latents[1].image"), run()))

    assert text in str(raised.value)
    assert 1 == finder.sample("stylewire_faces_total", alignment="face", result=result)


def test_search_of_a_caller_who_left_is_dropped(finder):
    """A search that has not begun when its caller leaves is never asked for; the next one is."""

    async def scene():
        finder.process.go_on.clear()
        first = asyncio.create_task(finder.align(photo(b"first"), run()))
        await until(lambda: finder.process.asked)
        left = asyncio.create_task(finder.align(photo(b"left"), run()))
        stays = asyncio.create_task(finder.align(photo(b"stays"), run()))
        await until(lambda: finder.aligner.in_flight == 3)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        finder.process.go_on.set()
        return await asyncio.gather(first, stays)

    asyncio.run(scene())

    assert [b"first", b"stays"] == finder.process.asked
    assert 0 == finder.aligner.in_flight


def test_search_after_the_deadline_is_not_begun(finder):
    """A search whose deadline passes while it waits ends with DEADLINE and is never asked for."""

    async def scene():
        finder.process.go_on.clear()
        first = asyncio.create_task(finder.align(photo(b"first"), run()))
        await until(lambda: finder.process.asked)
        deadline = run(1.0)
        late = asyncio.create_task(finder.align(photo(b"late"), deadline))
        await until(lambda: time.monotonic() > deadline.deadline)
        finder.process.go_on.set()
        await first
        await late

    with pytest.raises(DeadlineError, match="deadline"):
        asyncio.run(scene())
    assert [b"first"] == finder.process.asked


def test_more_than_can_wait_is_refused_at_once(finder):
    """What would wait longer than --max-queue-seconds, or than its deadline, is refused without waiting."""

    async def scene():
        finder.process.go_on.clear()
        tasks = [asyncio.create_task(finder.align(photo(b"%d" % n), run())) for n in range(6)]
        await until(lambda: finder.aligner.in_flight == 6)  # 1.8 s by the first guess
        with pytest.raises(DeadlineError, match="would begin"):
            await finder.align(photo(), run(1.0))
        tasks.append(asyncio.create_task(finder.align(photo(b"6"), run())))
        await until(lambda: finder.aligner.in_flight == 7)
        with pytest.raises(OverloadedError, match="7 pictures wait") as refused:
            await finder.align(photo(), run())
        finder.process.go_on.set()
        await asyncio.gather(*tasks)
        return refused.value

    refusal = asyncio.run(scene())

    assert pytest.approx(2.1) == refusal.retry_after_seconds
    assert 7 == len(finder.process.asked)


def test_search_is_a_phase_of_the_call(finder):
    """Wait and search are noted for the trace, the histogram, and the reply's timing."""
    noted = []
    spent = run()

    async def scene():
        spent.spans = SimpleNamespace(phase=noted.append)
        await finder.align(photo(art="anime"), spent)

    asyncio.run(scene())
    seconds = {phase.name: phase.stop - phase.start for phase in noted}

    assert ["queue", "detect"] == list(seconds)
    assert pytest.approx((seconds["queue"], seconds["detect"])) == (
        spent.timings.queue_seconds,
        spent.timings.encoding_seconds,
    )
    assert 1 == finder.sample("stylewire_face_search_seconds_count", alignment="anime")
    assert 1 == finder.sample("stylewire_faces_total", alignment="anime", result="one")


def test_landmark_model_that_is_not_there_is_named(tmp_path):
    """A wrong --landmark-model ends the start, not the first request."""
    with pytest.raises(SettingError, match=r"--landmark-model .*nothing.dat: there is no such file"):
        Aligner(Settings(landmark_model=tmp_path / "nothing.dat"), Metrics())
