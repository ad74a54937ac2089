"""Nothing is reported to anybody, and nothing is left in the home folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stylewire.demo import MODELS

OPEN = {
    "server": "from stylewire.server.engine.backends import BackendOptions, open_backend\n"
    "open_backend('onnxruntime', {path}, BackendOptions())",
    "export": "from stylewire_export.runners import open_graph_file\nopen_graph_file({path}, ('z',), ('w',))",
}


@pytest.mark.parametrize("part", list(OPEN))
def test_onnxruntime_keeps_no_id_of_the_machine(tmp_path, part):
    """Opening a graph writes no file of onnxruntime's telemetry, which it does unless it is told otherwise."""
    path = f"__import__('pathlib').Path({str(MODELS / 'avatars' / 'mapping.onnx')!r})"
    environment = {k: v for k, v in os.environ.items() if k not in {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}}

    def files(code) -> list[Path]:
        subprocess.run([sys.executable, "-c", code], check=True, env=environment | {"HOME": str(tmp_path)}, timeout=60)
        return [file for file in tmp_path.rglob("*") if file.is_file()]

    assert [] == files(OPEN[part].format(path=path))
    bare = f"import onnxruntime; onnxruntime.InferenceSession(str({path}), providers=['CPUExecutionProvider'])"
    print(f"without the setting: {files(bare)}")


SPY = """
import socket, sys

def refuse(*address):
    print("CALLS", address, flush=True)
    raise OSError("no network here")

socket.getaddrinfo = socket.socket.connect = refuse
"""


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "ncnn", "torchscript"])
def test_backend_calls_nobody(tmp_path, backend):
    """Loading and running a graph asks for no address, connects to nothing, and writes nothing into the home folder."""
    pytest.importorskip({"onnxruntime": "onnxruntime", "torchscript": "torch"}.get(backend, backend))
    (tmp_path / "sitecustomize.py").write_text(SPY)
    home = tmp_path / "home"
    home.mkdir()
    path = next(MODELS.glob("avatars/mapping.onnx"))
    if backend in ("ncnn", "torchscript"):  # the demo models have no files for these
        code = f"import stylewire.server.engine.backends.{backend}"
    else:
        code = OPEN["server"].replace("onnxruntime", backend).format(path=f"__import__('pathlib').Path({str(path)!r})")
    code += "\nimport time; time.sleep(0.5)  # what is sent is sent by a thread"
    private = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "PYTHONPATH"}
    environment = {k: v for k, v in os.environ.items() if k not in private}
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=environment | {"HOME": str(home), "PYTHONPATH": paths},
        timeout=120,
        capture_output=True,
        text=True,
    )

    assert "CALLS" not in done.stdout, done.stdout
    assert [] == [file for file in home.rglob("*") if file.is_file()]
