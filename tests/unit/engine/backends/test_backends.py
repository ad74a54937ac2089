"""The table of backends: files, graph names, and how many batches run side by side."""

from pathlib import Path

import pytest

from stylewire.errors import BackendUnavailableError
from stylewire.server.engine import backends
from stylewire.server.engine.backends import BackendOptions, graph_file, graph_name, most_instances, open_backend
from stylewire.server.engine_api.graphs import graph_kind

FILES = ("encoder-seg.onnx", "encoder-seg.fp16.onnx", "encoder-seg.ncnn.param", "encoder-seg.pt")


@pytest.mark.parametrize("file", FILES)
def test_graph_of_a_file(file):
    """All files of a graph carry its name, whatever their format and precision."""
    assert ("encoder-seg", "encoder") == (graph_name(Path("models") / file), graph_kind(graph_name(Path(file))))


@pytest.mark.parametrize(
    ("megabytes", "options", "expected"),
    [
        (1, {"threads": 2}, 4),
        (100, {"threads": 2}, 1),
        (100, {"threads": 7}, 1),
        (100, {"threads": 8}, 2),
        (100, {"threads": 64}, 4),
        (300, {"threads": 64}, 1),
        (300, {"threads": 64, "instances": 3}, 3),
        (1, {"threads": 64, "device": "cuda:0"}, 1),
        (1, {"threads": 64, "device": "cuda:0", "instances": 2}, 2),
    ],
)
def test_large_graphs_have_fewer_batches_side_by_side(tmp_path, megabytes, options, expected):
    """Small graphs share the threads; large ones keep four or more a batch, and the largest have one set of weights."""
    path = tmp_path / "synthesis.onnx"
    with path.open("wb") as file:
        file.truncate(megabytes << 20)

    assert expected == most_instances(path, BackendOptions(**options))


def test_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    """Whoever asks for a backend that is not installed is told what to install."""
    monkeypatch.setitem(backends._BACKENDS, "other", ("stylewire_no_such_package", "X", ".onnx", "other"))

    with pytest.raises(BackendUnavailableError, match=r"stylewire_no_such_package.*pip install 'stylewire\[other\]'"):
        open_backend("other", tmp_path / "synthesis.onnx", BackendOptions())


@pytest.mark.parametrize(
    ("backend", "file"),
    [
        ("onnxruntime", FILES[0]),
        ("openvino", FILES[0]),
        ("tensorrt", FILES[0]),
        ("ncnn", FILES[2]),
        ("torchscript", FILES[3]),
    ],
)
def test_every_backend_has_its_file(backend, file):
    """In float32 each format belongs to its runtime."""
    assert file == graph_file(backend, "encoder-seg", BackendOptions(), FILES)
