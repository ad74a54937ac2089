"""A real Triton: the tritonserver that ``.ci/fetch-triton`` has unpacked, with its Python backend and no other.

Models of the Python backend find numpy and onnxruntime by ``PYTHONPATH``, which they have to put before ``sys.path``:
the backend's Python ignores it.
"""

import contextlib
import os
import signal
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.children import free_port, wait_until

UNPACKED = Path(__file__).parent.parent.parent / "build" / "triton" / "pytriton" / "tritonserver"
PACKAGES = (UNPACKED.parent.parent / "packages", sysconfig.get_path("platlib"))
"""numpy 1, which the backend needs, before the numpy 2 of the tests."""
START_SECONDS = 120
_TRIES = 3


def program() -> Path:
    """Find ``tritonserver``; skips the test where there is none."""
    found = UNPACKED / "bin" / "tritonserver"
    if not found.exists():
        pytest.skip("tritonserver is not in build/triton; .ci/fetch-triton says why")
    return found


class RunningTriton:
    """tritonserver on free ports of 127.0.0.1: gRPC and metrics, no HTTP. It is ready when this returns.

    Args:
        repository: the model repository.
        arguments: further flags, such as ``--model-control-mode=explicit``.
        packages: folders of Python packages for models, first of all others.

    Attributes:
        grpc_address: host and port, also after a restart.
        metrics_url: where the metrics are, also after a restart.

    Raises:
        RuntimeError: with the log: it does not start, as when a model does not load.
    """

    def __init__(
        self, repository: Path, arguments: Sequence[str] = (), packages: Sequence[str | Path] = PACKAGES
    ) -> None:
        self._program, self._repository, self._arguments = program(), repository, tuple(arguments)
        self._packages = os.pathsep.join(map(str, packages))
        self._log = tempfile.NamedTemporaryFile(prefix="triton-", suffix=".log")  # noqa: SIM115 - as long as this
        for tries_left in reversed(range(_TRIES)):
            self._port, self._metrics_port = free_port(), free_port()
            try:
                self._start()
            except RuntimeError:
                # Somebody may have taken a port since it was found.
                if not tries_left or "already in use" not in self.log:
                    self._log.close()
                    raise
                self._log.truncate(0)
            else:
                break
        self.grpc_address = f"127.0.0.1:{self._port}"
        self.metrics_url = f"http://127.0.0.1:{self._metrics_port}/metrics"

    @property
    def log(self) -> str:
        """What it has logged until now, over all restarts."""
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    def restart(self) -> None:
        """Start it anew, on the same ports; kills it if it has not ended."""
        self.kill()
        self._start()

    def _start(self) -> None:
        options = {
            "model-repository": self._repository,
            "backend-directory": UNPACKED / "backends",
            "grpc-address": "127.0.0.1",
            "grpc-port": self._port,
            "metrics-address": "127.0.0.1",
            "metrics-port": self._metrics_port,
            "allow-http": "false",
            "exit-timeout-secs": 5,
            "backend-config": f"python,shm-region-prefix-name={self._shared_memory}",
        }
        # Configurations have to be complete; otherwise each model of the Python backend would be started twice.
        flags = [f"--{name}={value}" for name, value in options.items()] + ["--disable-auto-complete-config"]
        with Path(self._log.name).open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [str(self._program), *flags, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": self._packages, "PYTHONDONTWRITEBYTECODE": "1"},
                start_new_session=True,  # its models' processes are to end with it
            )
        self._session = self._process.pid
        try:
            wait_until(self._is_ready, self._process, lambda: self.log, START_SECONDS)
        except BaseException:
            self.kill()
            raise

    @property
    def _shared_memory(self) -> str:
        return f"stylewire_test_{self._port}"

    def _is_ready(self) -> bool:
        # A channel of its own each time: one that was refused waits for a second.
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            try:
                reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.RpcError:
                return False
        return reply.status == health_pb2.HealthCheckResponse.SERVING

    def kill(self) -> None:
        """End it at once, as a lost node does; does nothing if it has ended."""
        self._end(signal.SIGKILL, 30)

    def stop(self, timeout_seconds: float = 30) -> int:
        """End it in order; returns its exit code."""
        return self._end(signal.SIGTERM, timeout_seconds)

    def _end(self, signal_number: int, timeout_seconds: float) -> int:
        if not self._session:
            return self._process.wait()
        self._process.send_signal(signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_seconds)
        # What is left of its session: it itself, or its models' processes. They also leave their shared memory behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._session, signal.SIGKILL)
        self._session = 0  # the number may be another's soon
        for left in Path("/dev/shm").glob(f"{self._shared_memory}*"):
            left.unlink(missing_ok=True)
        return self._process.wait()

    def close(self) -> None:
        self.kill()  # in order takes 3 s
        self._log.close()


@contextlib.contextmanager
def running_triton(
    repository: Path, arguments: Sequence[str] = (), packages: Sequence[str | Path] = PACKAGES
) -> Iterator[RunningTriton]:
    """A Triton for the time of a ``with``; see ``RunningTriton``."""
    triton = RunningTriton(repository, arguments, packages)
    try:
        yield triton
    finally:
        triton.close()
