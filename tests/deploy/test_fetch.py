"""The script that fetches models into a pod, run as the init container runs it."""

import functools
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading

import pytest

from check.kinds import DEPLOY

SCRIPT = DEPLOY / "components" / "models-init" / "fetch.py"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing of requests."""


@pytest.fixture
def store(tmp_path):
    """A folder that is served over HTTP, and its address."""
    folder = tmp_path / "store"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def put(folder, **files):
    """Write an archive with these files; returns its SHA-256."""
    with tarfile.open(folder / "models.tar", "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return hashlib.sha256((folder / "models.tar").read_bytes()).hexdigest()


def fetch(target, url, digest):
    target.mkdir()
    environment = {**os.environ, "MODELS_URL": f"{url}/models.tar", "MODELS_SHA256": digest, "no_proxy": "*"}
    command = [sys.executable, str(SCRIPT), str(target)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_archive_with_its_digest_is_unpacked(store, tmp_path):
    """Models are where the server looks, and the archive takes no room any more."""
    folder, url = store
    digest = put(folder, **{"faces__model.json": b"{}", "faces__w_mean.npy": b"1"})

    ended = fetch(tmp_path / "models", url, digest.upper())

    assert (0, f"models from {url}/models.tar: faces\n") == (ended.returncode, ended.stdout)
    assert ["faces", "faces/model.json", "faces/w_mean.npy"] == sorted(
        str(path.relative_to(tmp_path / "models")) for path in (tmp_path / "models").rglob("*")
    )


def test_archive_with_another_digest_is_refused(store, tmp_path):
    """Nothing of what was not asked for is kept, and the pod does not start."""
    folder, url = store
    digest = put(folder, **{"faces__model.json": b"{}"})

    ended = fetch(tmp_path / "models", url, "0" * 64)

    assert 1 == ended.returncode
    assert f"its SHA-256 is {digest}, not {'0' * 64}" in ended.stderr
    assert [] == list((tmp_path / "models").iterdir())


def test_archive_that_leaves_its_folder_is_refused(store, tmp_path):
    """A path upwards writes nothing there, even with the right digest."""
    folder, url = store
    digest = put(folder, **{"..__outside": b"x"})

    ended = fetch(tmp_path / "models", url, digest)

    assert 1 == ended.returncode
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("content", [b"", b"not an archive" * 100])
def test_what_is_no_archive_is_refused(store, tmp_path, content):
    """A wrong file ends with what is wrong, not with a traceback."""
    folder, url = store
    (folder / "models.tar").write_bytes(content)

    ended = fetch(tmp_path / "models", url, hashlib.sha256(content).hexdigest())

    assert 1 == ended.returncode
    assert ended.stderr.startswith(f"models from {url}/models.tar are refused: ")
    assert "Traceback" not in ended.stderr


def test_missing_archive_is_refused(store, tmp_path):
    """An address with nothing there ends with a line that names it."""
    ended = fetch(tmp_path / "models", store[1], "0" * 64)

    assert 1 == ended.returncode
    assert "404" in ended.stderr
