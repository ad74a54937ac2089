"""Faces that the server finds: in photographs, in drawings, wherever a picture may be sent."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylewire import Client, InvalidFieldError, NoFaceError, RetryableError, UnsupportedError, photo, style
from stylewire.server.front.preprocessing import face_detectors
from stylewire.server.front.preprocessing.alignment import align, align_box
from support.drawing import drawn_face
from support.face_finding import needs
from support.pictures import astronaut, avatar, grains, saved, sheet_of
from support.scrape import Scrape
from support.servers import running_server


@pytest.fixture(scope="module")
def server():
    with running_server() as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with Client(server.address, timeout=120) as client:
        yield client


def process_of(server):
    """The process that looks for faces."""
    return server.app.aligner.processes[0].child


def difference(picture, expected: Image.Image) -> int:
    """The largest difference of what the encoder saw and a crop, in levels."""
    side_px = picture.width_px
    reduced = expected.resize((side_px, side_px), Image.Resampling.BILINEAR)
    return int(np.abs(np.asarray(picture.image, np.int16) - np.asarray(reduced)).max())


@needs("face")
def test_photograph_is_aligned_by_the_face_in_it(client):
    """The encoder sees the crop that the FFHQ rule cuts by the landmarks, which come with the answer."""
    found = client.invert(astronaut(), align=True)
    crop = align(astronaut(), np.array(found.face.landmarks), output_px=64)
    left, top, right, bottom = found.face.box

    assert 1 == found.face.count
    assert 1 >= difference(found.aligned, crop)
    assert all((left < x < right) and (top < y < bottom) for x, y in [(202, 100), (246, 103), (224, 141)])


@needs("face")
def test_landmarks_sent_back_give_the_same_code(client, server):
    """A caller who keeps the landmarks gets the same code from them, and nothing is searched."""
    found = client.invert(astronaut(), align="face")
    process = process_of(server)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        again = client.invert(astronaut(), align="face", landmarks=found.face.landmarks)
    finally:
        os.kill(process.pid, signal.SIGCONT)

    assert np.array_equal(found.code, again.code)
    assert again.face is None


@needs("face")
def test_largest_of_two_faces_is_inverted(client):
    """Of two people the larger is taken; the answer says how many there are."""
    pair = sheet_of((astronaut().resize((300, 300)), (0, 0)), (astronaut(), (320, 40)), size=(840, 560))
    found = client.invert(pair, align=True)

    assert 2 == found.face.count
    assert found.face.box[0] > 320


@needs("anime")
def test_drawing_is_cut_to_one_and_a_half_boxes(client):
    """The encoder sees the square of 1.5 times the detector's box; there are no landmarks."""
    found = client.invert(drawn_face(), align="anime")

    assert (1, ()) == (found.face.count, found.face.landmarks)
    assert 1 >= difference(found.aligned, align_box(drawn_face(), found.face.box, output_px=64))


@needs("face", "anime")
@pytest.mark.parametrize("art", ["face", "anime"])
def test_picture_of_nobody_is_refused(client, art):
    """No face is NO_FACE, with the picture's path."""
    with pytest.raises(NoFaceError, match=r"^image: no (face of a person|drawn face) was found in .* 300 x 300 px"):
        client.invert(grains(), align=art)


@needs("face", "anime")
def test_faces_are_found_wherever_a_photo_may_be(client):
    """Generate, MixStyles and Interpolate find faces as Invert does."""
    person, figure = photo(astronaut(), align="face"), photo(drawn_face(), align="anime")
    codes = [client.invert(astronaut(), align="face").code, client.invert(drawn_face(), align="anime").code]
    made = client.generate([person, 7, figure], return_codes=True)
    mixed = client.mix_styles(person, style(figure, (0, 4)), return_code=True)
    frames = list(client.interpolate([person, figure], 2, return_codes=True))

    assert np.allclose(codes, [made[0].code, made[2].code], atol=1e-4)
    assert np.allclose(np.concatenate([codes[1][:4], codes[0][4:]]), mixed.code, atol=1e-4)
    assert np.allclose(codes, [frame.code for frame in frames], atol=1e-4)


@needs("face")
def test_damaged_picture_is_a_wrong_field(client):
    """What only decoding finds out is told with the path of the picture, after the search was asked for."""
    damaged = photo(saved(astronaut())[:-200_000], align=True)
    with pytest.raises(InvalidFieldError) as raised:
        client.generate([7, damaged])

    assert ["latents[1].image.content"] == [each.field for each in raised.value.violations]


@needs("face")
def test_limits_hold_for_pictures_to_be_searched():
    """Limits of size hold before anything is decoded or searched, and are told beside what else is wrong."""
    bomb = saved(Image.new("1", (400, 400)))
    with running_server(max_image_bytes=100_000, max_image_pixels=100_000) as strict, Client(strict.address) as caller:
        with pytest.raises(InvalidFieldError) as raised:
            caller.generate([photo(each, align=True) for each in (astronaut(), bomb, b"")])

        assert [f"latents[{n}].image.content" for n in range(3)] == [each.field for each in raised.value.violations]
        assert process_of(strict) is None


@pytest.mark.parametrize(("art", "words"), [("face", ("dlib", "send landmarks")), ("anime", ("animeface",))])
def test_server_without_the_extra_says_so(client, monkeypatch, art, words):
    """Where no faces can be found, the refusal names what is missing and what can be done; codes still come."""
    monkeypatch.setattr(face_detectors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"stylewire\[align\]") as raised:
        client.invert(avatar(), align=art)

    assert UnsupportedError is type(raised.value)
    assert all(word in raised.value.message for word in words)
    assert client.invert(avatar()).code.shape == (10, 128)


@needs("face")
def test_process_that_died_is_replaced(client, server):
    """The process that looks for faces may be killed: the next search has another one."""
    first = client.invert(astronaut(), align=True)
    killed = process_of(server)
    os.kill(killed.pid, signal.SIGKILL)
    while killed.alive:
        time.sleep(0.01)
    again = client.invert(astronaut(), align=True)

    assert np.array_equal(first.code, again.code)
    assert killed.pid != process_of(server).pid


@needs("face")
def test_server_that_ends_takes_its_process_along():
    """Stopping ends the process, also one whose search would never end; its caller hears that the server stops."""
    with ThreadPoolExecutor(1) as threads:
        with running_server(grace_seconds=0.1) as server:
            client = Client(server.address, timeout=60)
            client.invert(astronaut(), align=True)
            process = process_of(server)
            os.kill(process.pid, signal.SIGSTOP)
            call = threads.submit(client.invert, astronaut(), align=True)
            until = time.monotonic() + 60
            while not server.app.aligner.in_flight:
                assert time.monotonic() < until
                time.sleep(0.01)

        assert -signal.SIGKILL == process.exit_code
        assert isinstance(call.exception(90), RetryableError)
        client.close()


@needs("face", "anime")
def test_guide_runs(server, tmp_path, monkeypatch, capsys):
    """The Python of docs/alignment.md works as it stands, but for the address of the server."""
    guide = (Path(__file__).parents[2] / "docs" / "alignment.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    astronaut().save(tmp_path / "photo.png")
    drawn_face().save(tmp_path / "drawing.png")
    grains().save(tmp_path / "nobody.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("localhost:8500", server.address), "alignment.md", "exec"), {})

    assert {"crop.png", "figure.png"} <= {path.name for path in tmp_path.iterdir()}
    assert "the largest of 1, at (1" in capsys.readouterr().out


@needs("face", "anime")
def test_searches_are_counted(client, server):
    """Every search is in the metrics, by what was found; a search is in the answer's timing too."""
    before = Scrape(server.metrics_url)
    found = client.invert(astronaut(), align=True)
    with pytest.raises(NoFaceError):
        client.invert(grains(), align="anime")
    after = Scrape(server.metrics_url)

    def rise(name, **labels):
        return after.count(name, **labels) - before.count(name, **labels)

    assert 1 == rise("stylewire_faces_total", alignment="face", result="one")
    assert 1 == rise("stylewire_faces_total", alignment="anime", result="none")
    assert 0.001 < found.timing.encoding_seconds
