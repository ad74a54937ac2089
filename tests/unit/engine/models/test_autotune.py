"""Choosing the fastest backend."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stylewire.errors import BackendUnavailableError
from stylewire.manifest import FileInfo, ManifestError
from stylewire.server.engine.backends import BackendOptions, graph_file
from stylewire.server.engine.models import autotune
from stylewire.server.engine.models.autotune import Autotuner, GraphFiles
from stylewire.server.engine.models.measurements import fastest
from support.fakes import FakeBackend

X = np.ones((2, 3), np.float32)
FILES = ("synthesis.onnx", "synthesis.fp16.onnx", "synthesis.ncnn.param", "mapping.onnx", "synthesis.pt")
CPU = {"onnxruntime": 0.02, "openvino": 0.02, "ncnn": 0.02}


class Harness:
    """Backends that are installed, each with the seconds of a run, or None where it cannot be opened."""

    def __init__(self, monkeypatch, tmp_path, **seconds) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.verified: list[list[str]] = []
        self.versions = {name: "1" for name in seconds if not name.endswith("_fast")}
        self.files = FILES
        self.seconds, self.cache = seconds, tmp_path / "cache" / "backends.json"
        monkeypatch.setattr(autotune, "MEASURE_SECONDS", 0.02)

    def open_backend(self, name, path, options):
        key = name if options.precision == "parity" else f"{name}_fast"
        self.opened.append(f"{key} {path.name}")
        seconds = self.seconds.get(key, self.seconds[name])
        if seconds is None:
            raise BackendUnavailableError("not here")
        harness = self

        class Timed(FakeBackend):
            def run(self, inputs, outputs, *, exclusive=False):
                time.sleep(abs(seconds))
                return {
                    k: v * (1 if seconds > 0 else 3)
                    for k, v in super().run(inputs, outputs, exclusive=exclusive).items()
                }

            def close(self):
                harness.closed.append(key)
                super().close()

        backend = Timed(instances=2)
        backend.name = key
        return backend

    def open(self, *, backend="auto", graph="synthesis", digest="d", cached=True, **options):
        manifest = SimpleNamespace(
            files={name: FileInfo(sha256=f"{digest:0>64}", size_bytes=1) for name in self.files},
            verify_files=lambda directory, read: self.verified.append(sorted(read)),
        )
        vectors = {f"{graph}.in.x": X, f"{graph}.out.image": X * 2}
        autotuner = Autotuner(
            backend,
            BackendOptions(**options),
            self.cache if cached else None,
            opener=self.open_backend,
            versions=self.versions,
        )
        return autotuner.open(GraphFiles(f"fake.{graph}", graph, Path(), manifest, vectors))

    def choose(self, **options) -> str:
        return self.open(**options).backend.name


@pytest.mark.parametrize("best", list(CPU))
def test_fastest_is_chosen(monkeypatch, tmp_path, caplog, best):
    """The backend with most rows a second wins and stays open, the others are closed, and the log names every speed."""
    caplog.set_level("INFO")
    harness = Harness(monkeypatch, tmp_path, **CPU | {best: 0.001})
    opened = harness.open()

    assert best == opened.backend.name
    assert set(CPU) - {best} == set(harness.closed)
    assert set(CPU) == {each.backend for each in opened.measurements}
    assert all(each.rows_per_second > 0 for each in opened.measurements)
    assert f"{best} is the fastest here: ncnn" in caplog.text


@pytest.mark.parametrize(("fast", "best"), [(0.001, "openvino_fast"), (None, "ncnn"), (-0.001, "ncnn"), (0.1, "ncnn")])
def test_fast_arithmetic_is_tried_beside_float32(monkeypatch, tmp_path, fast, best):
    """Where it is allowed, it wins if it is faster and close enough; else float32 is left."""
    harness = Harness(monkeypatch, tmp_path, onnxruntime=0.03, openvino=0.03, ncnn=0.01, openvino_fast=fast)

    assert best == harness.choose(precision="fast")
    assert best == harness.choose(precision="fast")
    assert "ncnn" == harness.choose(precision="parity")


def test_measurement_is_cached(monkeypatch, tmp_path):
    """The same graph on the same machine with the same versions is measured once; anything else anew."""
    harness = Harness(monkeypatch, tmp_path, onnxruntime=0.02, ncnn=0.001, openvino=0.03)
    first = harness.open()
    assert 3 == len(harness.opened)
    again = harness.open()
    assert (4, "ncnn") == (len(harness.opened), again.backend.name)
    assert first.measurements == again.measurements
    harness.choose(digest="e")
    assert 7 == len(harness.opened)
    harness.choose(threads=2)
    assert 10 == len(harness.opened)
    harness.versions["openvino"] = "3"
    harness.choose()
    assert 13 == len(harness.opened)


def test_cached_backend_that_fails_is_measured_again(monkeypatch, tmp_path, caplog):
    """A runtime that broke since, or that now gives other pictures, loses its place."""
    harness = Harness(monkeypatch, tmp_path, onnxruntime=0.01, ncnn=0.001)
    assert "ncnn" == harness.choose()
    harness.seconds["ncnn"] = -0.001

    assert "onnxruntime" == harness.choose()
    assert "ncnn 2" in caplog.text or "fails now" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}', '{"x": [{"speed": 1}]}'])
def test_damaged_cache_is_measured_again(monkeypatch, tmp_path, content):
    """A file that cannot be read costs a measurement, nothing else."""
    (tmp_path / "cache").mkdir()
    file = tmp_path / "cache" / "backends.json"
    file.write_text(content)
    harness = Harness(monkeypatch, tmp_path, onnxruntime=0.02, openvino=0.001)

    assert "openvino" == harness.choose()
    kept = [value for value in json.loads(file.read_text()).values() if isinstance(value, list)]
    assert ["openvino", "onnxruntime"] == [each["backend"] for each in kept[-1]]


def test_cache_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    """On a file system without a place for it backends are measured at every start."""
    (tmp_path / "cache").write_text("a file where the folder would be")
    harness = Harness(monkeypatch, tmp_path, onnxruntime=0.02, openvino=0.001)

    assert ["openvino", "openvino"] == [harness.choose(), harness.choose()]
    assert 4 == len(harness.opened)


@pytest.mark.parametrize("seconds", [None, -0.001])
def test_backend_that_fails_is_out(monkeypatch, tmp_path, caplog, seconds):
    """One that cannot be opened, or gives other outputs than the export stored, does not win, however fast it is."""
    harness = Harness(monkeypatch, tmp_path, onnxruntime=0.01, openvino=seconds)
    opened = harness.open()
    problem = next(each.problem for each in opened.measurements if each.backend == "openvino")

    assert "onnxruntime" == opened.backend.name
    assert problem in ("not here", "fake.synthesis: image differs from the export by 4, limit 0")
    assert f"fake.synthesis: openvino (parity) is out: {problem}" in caplog.text


def test_no_backend_left_is_an_error_with_all_reasons(monkeypatch, tmp_path):
    """Whoever reads it need not look into the log."""
    harness = Harness(monkeypatch, tmp_path, onnxruntime=-0.001, openvino=None)

    with pytest.raises(BackendUnavailableError, match=r"openvino parity not here; onnxruntime parity .* differs"):
        harness.open(cached=False)


@pytest.mark.parametrize("only", ["one installed", "one file", "mapping"])
def test_nothing_is_measured_where_there_is_no_choice(monkeypatch, tmp_path, only):
    """With one backend, or for a mapping network, which takes no time, onnxruntime is opened at once."""
    harness = Harness(monkeypatch, tmp_path, onnxruntime=0.01, ncnn=0.001)
    graph = "mapping" if only == "mapping" else "synthesis"
    if only == "one installed":
        del harness.versions["ncnn"]
    if only == "one file":
        harness.files = ("synthesis.onnx",)
    opened = harness.open(graph=graph)

    assert [f"onnxruntime {graph}.onnx"] == harness.opened
    assert () == opened.measurements


def test_pinned_backend_is_not_compared(monkeypatch, tmp_path):
    """It runs whatever the others could, its errors are raised, and mapping networks of ncnn run in onnxruntime."""
    harness = Harness(monkeypatch, tmp_path, onnxruntime=0.001, ncnn=0.05, openvino=None, torchscript=-0.001)

    assert "ncnn" == harness.choose(backend="ncnn")
    assert [["synthesis.ncnn.bin", "synthesis.ncnn.param"]] == harness.verified
    assert "onnxruntime" == harness.choose(backend="ncnn", graph="mapping")
    with pytest.raises(BackendUnavailableError, match="not here"):
        harness.choose(backend="openvino")
    with pytest.raises(ManifestError, match="image differs"):
        harness.choose(backend="torchscript")
    harness.files = ("synthesis.onnx",)
    with pytest.raises(BackendUnavailableError, match="no synthesis for ncnn: export the model with more --formats"):
        harness.choose(backend="ncnn")


def test_graphics_cards_compare_their_own(monkeypatch, tmp_path):
    """On a GPU the candidates are onnxruntime and TorchScript; fast takes the files in half precision."""
    harness = Harness(monkeypatch, tmp_path, onnxruntime=0.01, openvino=0.001, ncnn=0.001, torchscript=0.03)

    assert "onnxruntime_fast" == harness.choose(device="cuda:0", precision="fast")
    assert ["onnxruntime_fast synthesis.fp16.onnx", "torchscript_fast synthesis.pt"] == harness.opened


def test_processors_do_not_take_files_in_half_precision():
    """On a CPU they would only be slower; without one in half precision a GPU takes float32."""
    fast = {"precision": "fast"}

    assert "synthesis.onnx" == graph_file("onnxruntime", "synthesis", BackendOptions(**fast), FILES)
    assert "synthesis.fp16.onnx" == graph_file("onnxruntime", "synthesis", BackendOptions(device="cuda", **fast), FILES)
    assert "mapping.onnx" == graph_file("onnxruntime", "mapping", BackendOptions(device="cuda", **fast), FILES)
    assert "synthesis.onnx" == graph_file("onnxruntime", "synthesis", BackendOptions(device="cuda"), FILES)
    assert graph_file("ncnn", "mapping", BackendOptions(), FILES) is None


def test_fastest_of_none_is_none():
    """Without measurements there is no winner."""
    assert fastest(()) is None
