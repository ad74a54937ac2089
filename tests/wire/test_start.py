"""How a server starts: soon, or not at all and with one sentence that says why."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.servers import ServerProcess

READY_SECONDS = 5.0
_LOG_LINE = re.compile(r"\d{4}-|[EW]\d{4} |WARNING: All log messages before absl")


def start(*arguments, models=None, **variables) -> subprocess.CompletedProcess:
    """Run a server that must not start."""
    command = [sys.executable, "-m", "stylewire", "serve", "--port", "0", "--metrics-port", "0", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STYLEWIRE_")}
    command += ["--models", str(models)] if models else []
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=60, check=False)


def sentence(failed) -> str:
    """What a server that did not start says to the person who started it, beside its log and that of gRPC's core."""
    assert (1, "") == (failed.returncode, failed.stdout), failed.stderr
    assert "Traceback" not in failed.stderr
    said = [line for line in failed.stderr.splitlines() if not _LOG_LINE.match(line)]
    assert 1 == len(said), failed.stderr
    return said[0]


@pytest.fixture
def model(small_models, tmp_path) -> Path:
    """A copy of a good model directory, to be damaged."""
    return Path(shutil.copytree(small_models / "plain", tmp_path / "plain"))


@pytest.mark.parametrize("name", ["synthesis.onnx", "mapping.onnx", "w_mean.npy", "check.npz"])
def test_one_damaged_byte_is_found(model, name):
    """A file that differs from the manifest in one bit is named."""
    path = model / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    assert name in sentence(start(models=model.parent))


def test_missing_file_is_found(model):
    """A file of the manifest that is not there is named."""
    (model / "synthesis.onnx").unlink()

    assert "synthesis.onnx" in sentence(start(models=model.parent))


def test_unreadable_manifest_is_found(model):
    """A manifest that says something unknown is refused with the name of its field."""
    manifest = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**manifest, "resolution": 32}))

    assert "resolution" in sentence(start(models=model.parent))


def test_folder_without_models_is_refused(tmp_path):
    """An empty folder is refused with what to do about it."""
    assert "stylewire-export model" in sentence(start(models=tmp_path))


def test_unknown_default_model_is_refused(small_models):
    """A default model that is not there is refused, and those that are there are named."""
    assert "classes, plain, rgba, twin" in sentence(start("--default-model", "nobody", models=small_models))


def test_unknown_flag_is_refused():
    """An unknown flag is refused with the nearest known one."""
    assert "did you mean --max-batch-size?" in sentence(start("--max-batchsize", "4"))


def test_unknown_variable_is_refused():
    """An unknown variable of ours is refused with the nearest known one."""
    assert "did you mean STYLEWIRE_MAX_BATCH_SIZE?" in sentence(start(STYLEWIRE_MAX_BATCHSIZE="4"))


@pytest.mark.parametrize("arguments", [("--max-batch-size", "0"), ("--device", "tpu"), ("--port", "70000")])
def test_wrong_value_is_refused(arguments):
    """A wrong value is refused with its flag and the value."""
    said = sentence(start(*arguments))

    assert arguments[0] in said
    assert arguments[1] in said


@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_taken_port_is_refused(small_models, flag):
    """A port that another process listens on is refused by its number."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        said = sentence(start(flag, number, models=small_models / "plain"))

    assert number in said
    assert flag in said


def test_server_is_ready_soon():
    """The demo models are served within five seconds of processor time after the start of the process.

    Processor time of all threads, since the machine may be busy: with a core to itself the server waits for nothing,
    so that this is more than the time a person waits.
    """
    started = time.monotonic()
    server = ServerProcess()
    waited = time.monotonic() - started
    try:
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        computed = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime + stime
        server.stop(signal.SIGTERM)
    finally:
        server.kill()
    print(f"ready after {waited:.2f} s, {computed:.2f} s of them computing")

    assert computed < READY_SECONDS
