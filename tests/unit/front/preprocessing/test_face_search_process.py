"""The process that looks for faces, from the server's end."""

import pytest

from stylewire.manifest import EncoderInfo
from stylewire.server.front.preprocessing.face_search_process import (
    Found,
    Limits,
    Problem,
    Question,
    SearchError,
    SearchProcess,
)
from support.drawing import drawn_face
from support.face_finding import needs
from support.pictures import saved

ENCODER = EncoderInfo(
    graph="encoder", task="encode", input_kind="photo", input_channels=3, input_height_px=64, input_width_px=48
)
LIMITS = Limits(None, 1600, 16 << 20, 32_000_000)


@pytest.fixture
def process():
    process = SearchProcess(LIMITS)
    yield process
    process.close()


@needs("anime")
def test_process_that_does_not_answer_is_replaced(process):
    """A search that takes too long ends its process with an error; the next search has another one."""
    drawing = Question(saved(drawn_face()), "anime", ENCODER)
    with pytest.raises(SearchError, match="longer than 0 s"):
        process.ask(drawing, 0)
    reply = process.ask(drawing, 120)

    assert isinstance(reply, Found)
    assert (3, 64, 48) == reply.input.shape


@needs("anime")
def test_what_has_no_face_is_a_problem_of_the_picture(process):
    """Damaged pictures and those of nobody are told apart, and the process goes on after both."""
    damaged = process.ask(Question(b"GIF89a", "anime", ENCODER), 120)
    nobody = process.ask(Question(saved(drawn_face(20)), "anime", ENCODER), 120)

    assert isinstance(damaged, Problem)
    assert damaged.damaged
    assert Problem("no drawn face was found in the picture of 20 x 20 px") == nobody
