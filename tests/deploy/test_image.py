"""The built images, started by a real container runtime; skipped where `make image-offline` has not built them."""

import re
import signal
import urllib.request
from pathlib import Path

import pytest

from stylewire import Client
from support.containers import Image, running_container

LARGEST_MEGABYTES = {"cpu": 700, "gpu": 4000}
"""Unpacked, on Debian's base, which is 60 MB larger than python:3.11-slim."""


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def image(request):
    return Image(request.param)


@pytest.fixture(scope="module")
def container(image, tmp_path_factory):
    with running_container(image, tmp_path_factory.mktemp("container"), "--device", "cpu") as container:
        yield container


def status(container) -> dict[str, str]:
    text = Path(f"/proc/{container.pid}/status").read_text(encoding="ascii")
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def test_image_serves(container):
    """A picture comes out of the image by a call from outside, with nothing writable but two scratch folders."""
    with Client(container.address) as client:
        (result,) = client.generate([7])

    assert result.image.width == result.image.height > 0


def test_metrics_are_served(container):
    """The second port answers too."""
    with urllib.request.urlopen(container.metrics_url, timeout=20) as response:
        text = response.read().decode()

    assert "stylewire_" in text


def test_server_is_nobody(container):
    """The server's process is the image's user and has no capability, not even one that it could get back."""
    found = status(container)

    assert ["65532"] * 4 == found["Uid"].split() == found["Gid"].split()
    assert {0} == {int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert "1" == found["NoNewPrivs"]


def test_root_is_read_only(container):
    """Nothing outside the scratch folders can be written, and these can."""
    refused = [container.run("touch", path).returncode for path in ("/x", "/opt/stylewire/x", "/usr/local/bin/x")]
    allowed = [container.run("touch", path).returncode for path in ("/tmp/x", "/var/cache/stylewire/x")]

    assert ([1, 1, 1], [0, 0]) == (refused, allowed)


def test_health_check_answers_inside(image, container):
    """The health check that the image declares says SERVING, at another address and with another name as well."""
    command = [*image.config["Healthcheck"]["Test"][1:], "--address", container.address]
    done = [container.run(*command), container.run(*command, "--service", "")]

    assert [(0, "status: SERVING\n")] * 2 == [(each.returncode, each.stdout) for each in done]


def test_image_has_no_compiler(image):
    """No compiler, no linker, no headers of Python, no pip that works: what came in through a hole cannot build on."""
    tools = re.compile(r"/(x86_64-linux-gnu-)?(gcc|g\+\+|cc|c\+\+|clang|ld|as|make|cmake|nvcc)(-\d+)?$")
    found = [str(path) for path in image.files if tools.search(str(path)) and "/bin/" in str(path)]

    assert [] == found
    assert not any(path.name == "Python.h" for path in image.files)
    assert not any(path.match("site-packages/pip/__main__.py") for path in image.files)


def test_image_has_no_torch_and_no_source_tree(image):
    """The image holds what serves: no torch, no tests, no lock, no secret of the build."""
    packages = {path.name for path in image.files if path.parent.name == "site-packages"}

    assert {"stylewire", "onnxruntime", "grpc"} <= packages
    assert set() == packages & {"torch", "pytest", "tests", "hatchling"}
    assert not any(path.match("/run/secrets/*") or path.match("/lock") or path.match("/tools") for path in image.files)


def test_bytecode_is_ready(image):
    """Every module has bytecode that is used unchecked: with a read-only root it could not be written at a start."""
    folder = image.root / "opt/stylewire/lib/python3.11/site-packages"
    modules = [path for name in ("stylewire", "grpc", "numpy/_core") for path in (folder / name).glob("*.py")]
    caches = [path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc" for path in modules]

    assert len(caches) > 50
    assert {1} == {int.from_bytes(path.read_bytes()[4:8], "little") for path in caches}  # 1: hash-based, unchecked


def test_image_is_not_larger_than_it_was(image):
    """The image's size, printed, stays under a bound that somebody set."""
    inodes = {stat.st_ino: stat.st_size for path in image.root.rglob("*") if (stat := path.lstat())}
    megabytes = sum(inodes.values()) / 1e6
    print(f"{image.root.parent.name}: {megabytes:.0f} MB unpacked")

    assert megabytes < LARGEST_MEGABYTES[image.root.parent.name]


def test_stop_signal_drains(image, tmp_path):
    """The image's stop signal reaches the server, which ends by itself with 0."""
    with running_container(image, tmp_path, "--device", "cpu") as container:
        code = container.stop(signal.Signals[image.config["StopSignal"]])

        assert 0 == code
        assert "stopped" in container.log.read_text(encoding="utf-8")


def test_cuda_of_the_gpu_image_is_complete(tmp_path):
    """The image's loader finds every library that onnxruntime's CUDA provider is linked to, CUDA 13 among them.

    All but the driver's own, which the container runtime brings.
    """
    packages = "/opt/stylewire/lib/python3.11/site-packages"
    provider = f"{packages}/onnxruntime/capi/libonnxruntime_providers_cuda.so"
    folders = f"LD_LIBRARY_PATH={packages}/nvidia/cu13/lib:{packages}/nvidia/cudnn/lib"
    with running_container(Image("gpu"), tmp_path, "--device", "cpu") as container:
        linked = dict(re.findall(r"(\S+) => (.+)", container.run("env", folders, "ldd", provider).stdout))

    assert {"libcudart.so.13", "libcublas.so.13"} <= set(linked)  # cuDNN 9 is opened by name when it is needed
    assert {"libcuda.so.1"} >= {name for name, where in linked.items() if where == "not found"}


def test_gpu_image_says_that_there_is_no_gpu(tmp_path):
    """On a node without a GPU the image ends with a sentence about it instead of serving slowly from the CPU."""
    with pytest.raises(RuntimeError, match="CUDA"), running_container(Image("gpu"), tmp_path):
        pass
