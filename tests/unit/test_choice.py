"""Choosing the fastest backend."""

import json
import time

import numpy as np
import pytest

from stylewire.errors import BackendUnavailableError
from stylewire.server import choice
from stylewire.server.backends import BackendOptions
from stylewire.server.choice import Chooser
from support.fakes import FakeBackend

X = np.ones((2, 3), np.float32)
VECTORS = {"synthesis.in.x": X, "synthesis.out.image": X * 2}


class Desk:
    """Two installed backends, of which each run takes as long as told, or fails."""

    def __init__(self, monkeypatch, tmp_path, **seconds) -> None:
        self.opened: list[str] = []
        self.versions = {"onnxruntime": "1", "openvino": "2"}
        self._seconds, self._memory = seconds, tmp_path / "cache" / "backends.json"
        self._path = tmp_path / "synthesis.onnx"
        monkeypatch.setattr(choice, "open_backend", self._open)
        monkeypatch.setattr(choice, "_version", lambda packages: self.versions.get(packages[0]))
        monkeypatch.setattr(choice, "_SECONDS", 0.02)

    def _open(self, name, path, options):
        self.opened.append(name)
        seconds = self._seconds[name if options.precision == "parity" else f"{name}_fast"]
        if seconds is None:
            raise BackendUnavailableError("not here")

        class Slow(FakeBackend):
            def run(self, inputs, outputs, *, wide=False):
                time.sleep(seconds)
                return {k: v * (seconds >= 0) for k, v in super().run(inputs, outputs, wide=wide).items()}

        return Slow(slots=2)

    def choose(self, *, digest="d", memory=True, **options) -> str:
        chooser = Chooser(BackendOptions(**options), self._memory if memory else None)
        return str(chooser.choose("fake.synthesis", self._path, digest, VECTORS))


@pytest.mark.parametrize("best", ["onnxruntime", "openvino"])
def test_fastest_is_chosen(monkeypatch, tmp_path, caplog, best):
    """The backend with most rows a second wins, and the log names the speed of each."""
    caplog.set_level("INFO")
    seconds = {"onnxruntime": 0.01, "openvino": 0.01} | {best: 0.001}
    desk = Desk(monkeypatch, tmp_path, **seconds)

    assert best == desk.choose()
    assert f"{best} is the fastest here: onnxruntime" in caplog.text


@pytest.mark.parametrize(("fast", "best"), [(0.001, "openvino (fast)"), (None, "openvino"), (0.1, "openvino")])
def test_fast_arithmetic_is_tried_beside_float32(monkeypatch, tmp_path, fast, best):
    """Where it is allowed, it wins if it is faster and close enough; else float32 of the same backend is left."""
    desk = Desk(monkeypatch, tmp_path, onnxruntime=0.02, openvino=0.01, openvino_fast=fast)

    assert best == desk.choose(precision="fast")
    assert best == desk.choose(precision="fast")
    assert "openvino" == desk.choose(precision="parity")


def test_choice_is_remembered(monkeypatch, tmp_path):
    """The same graph on the same machine with the same versions is measured once; anything else anew."""
    desk = Desk(monkeypatch, tmp_path, onnxruntime=0.002, openvino=0.001, openvino_fast=0.003)
    desk.choose()
    assert 2 == len(desk.opened)
    assert "openvino" == desk.choose()
    assert 2 == len(desk.opened)
    desk.choose(digest="other")
    assert 4 == len(desk.opened)
    desk.choose(precision="fast")
    assert 7 == len(desk.opened)
    desk.versions["openvino"] = "3"
    desk.choose()
    assert 9 == len(desk.opened)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}'])
def test_damaged_memory_is_measured_again(monkeypatch, tmp_path, content):
    """A file that cannot be read costs a measurement, nothing else."""
    (tmp_path / "cache").mkdir()
    file = tmp_path / "cache" / "backends.json"
    file.write_text(content)
    desk = Desk(monkeypatch, tmp_path, onnxruntime=0.002, openvino=0.001)

    assert "openvino" == desk.choose()
    assert ["openvino"] == [value for value in json.loads(file.read_text()).values() if value == "openvino"]


def test_memory_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    """On a file system without a place for it the choice is made at every start."""
    (tmp_path / "cache").write_text("a file where the folder would be")
    desk = Desk(monkeypatch, tmp_path, onnxruntime=0.002, openvino=0.001)

    assert ["openvino", "openvino"] == [desk.choose(), desk.choose()]
    assert 4 == len(desk.opened)


def test_backend_that_fails_is_out(monkeypatch, tmp_path, caplog):
    """One that cannot be opened does not win, and the log says why."""
    desk = Desk(monkeypatch, tmp_path, onnxruntime=0.01, openvino=None)

    assert "onnxruntime" == desk.choose()
    assert "fake.synthesis: openvino is out: not here" in caplog.text


def test_backend_that_gives_other_outputs_is_out(monkeypatch, tmp_path, caplog):
    """However fast one is, it has to give what the export stored."""
    desk = Desk(monkeypatch, tmp_path, onnxruntime=0.01, openvino=0.001)
    monkeypatch.setattr(
        choice,
        "open_backend",
        lambda name, path, options: FakeBackend(most_wide=0) if name == "openvino" else desk._open(name, path, options),
    )
    monkeypatch.setattr(FakeBackend, "run", lambda self, inputs, outputs, *, wide=False: dict.fromkeys(outputs, X * 3))

    with pytest.raises(BackendUnavailableError, match=r"no backend can run fake\.synthesis"):
        desk.choose(memory=False)
    assert "openvino is out: fake.synthesis: image differs from the export" in caplog.text


@pytest.mark.parametrize("only", ["one installed", "mapping"])
def test_nothing_is_measured_where_there_is_no_choice(monkeypatch, tmp_path, only):
    """With one backend, or for a mapping network, which takes no time, onnxruntime runs at once."""
    desk = Desk(monkeypatch, tmp_path, onnxruntime=0.01, openvino=0.001)
    if only == "mapping":
        desk._path = tmp_path / "mapping.onnx"
    else:
        del desk.versions["openvino"]

    assert "onnxruntime" == desk.choose()
    assert [] == desk.opened
