"""An image of ``make image-offline``, started by runc as a cluster would: no root, no capability, nothing writable."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import pytest

from stylewire.testing.launcher import find_announcement

IMAGES = Path(__file__).parent.parent.parent / "build" / "image"
_WRITABLE = ("/tmp", "/var/cache/stylewire")


class Image:
    """A root file system and what its makers tell a container runtime.

    Attributes:
        root: the folder of the root file system.
        config: the image's configuration, as Docker writes it.
    """

    def __init__(self, target: str) -> None:
        self.root = IMAGES / target / "rootfs"
        config = IMAGES / target / "config.json"
        if not config.exists():
            pytest.skip(f"build/image/{target} is not there: make image-offline IMAGES={target}")
        if os.geteuid() != 0 or not shutil.which("runc"):
            pytest.skip("starting an image needs root and runc, a package of Debian")
        self.config = json.loads(config.read_text(encoding="utf-8"))

    @cached_property
    def files(self) -> list[Path]:
        """All files, by their path in the image."""
        return [Path("/", path.relative_to(self.root)) for path in self.root.rglob("*")]


class Container:
    """An image's entry point with some flags, on the network of this machine.

    Attributes:
        address: host and port of gRPC.
        metrics_url: where the metrics are.
        pid: of the server, as this machine sees it.
    """

    def __init__(self, image: Image, folder: Path, flags: list[str]) -> None:
        self._runc = ["runc", "--root", str(folder / "state")]
        self._name = f"stylewire-test-{uuid.uuid4().hex}"
        (folder / "config.json").write_text(json.dumps(_bundle(image, flags)), encoding="utf-8")
        self.log = folder / "log"
        with self.log.open("w", encoding="utf-8") as log:
            command = [*self._runc, "run", "--bundle", str(folder), self._name]
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True
            )
        line = self.process.stdout.readline()
        announcement = find_announcement(line)
        if not announcement:
            self.kill()
            raise RuntimeError(f"the server did not start: {line}{self.log.read_text(encoding='utf-8')}")
        self.address, self.metrics_url = announcement
        state = subprocess.run([*self._runc, "state", self._name], capture_output=True, check=True).stdout
        self.pid = json.loads(state)["pid"]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return subprocess.run([*self._runc, "exec", self._name, *command], capture_output=True, text=True, check=False)

    def stop(self, signal_number: int, timeout: float = 60) -> int:
        """Send a signal as a runtime does; returns the exit code."""
        self.process.send_signal(signal_number)
        self.process.communicate(timeout=timeout)
        return self.process.returncode

    def kill(self) -> None:
        subprocess.run([*self._runc, "delete", "--force", self._name], capture_output=True, check=False)
        self.process.kill()
        self.process.communicate()


@contextmanager
def running_container(image: Image, folder: Path, *flags: str) -> Iterator[Container]:
    usual = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--drain-seconds", "0"]
    container = Container(image, folder, [*usual, "--backend", "onnxruntime", *flags])
    try:
        yield container
    finally:
        container.kill()


def _bundle(image: Image, flags: list[str]) -> dict:
    """Write what runc is told: the image's own words, and what Kubernetes' restricted profile adds."""
    uid, gid = map(int, image.config["User"].split(":"))
    scratch = [("tmpfs", path, ["nosuid", "nodev", "noexec", "mode=1777"]) for path in _WRITABLE]
    system = [("proc", "/proc", []), ("tmpfs", "/dev", ["nosuid", "mode=755"]), ("sysfs", "/sys", ["nosuid", "ro"])]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(image.root), "readonly": True},
        "process": {
            "user": {"uid": uid, "gid": gid},
            "args": [*image.config["Entrypoint"], *(image.config["Cmd"] or []), *flags],
            "env": image.config["Env"],
            "cwd": image.config["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "mounts": [
            {"type": kind, "source": kind, "destination": at, "options": how} for kind, at, how in system + scratch
        ],
        # No network namespace: the test calls from outside. No cgroup rules: this machine's may be of any version.
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
    }
