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
