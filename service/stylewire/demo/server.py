"""A server as a child process: started on free ports, stopped with SIGTERM."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_COMMAND = (sys.executable, "-m", "stylewire.cli.main", "serve", "--port=0", "--metrics-port=0", "--drain-seconds=0")
_READY = re.compile(r"stylewire: serving on (\S+), metrics on (\S+)")
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class ServerProcessError(Exception):
    """The server did not start or did not stop as it should; the message has the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """Where a server answers.

    Attributes:
        address: host and port of gRPC.
        metrics_url: its metrics page.
        start_seconds: from the start of the process to its readiness.
    """

    address: str
    metrics_url: str
    start_seconds: float


@contextmanager
def running_server(log_path: Path, *arguments: str) -> Iterator[RunningServer]:
    """Run ``stylewire serve`` on free ports, and stop it in the end.

    Args:
        log_path: takes the server's log.
        *arguments: further flags of ``stylewire serve``.

    Raises:
        ServerProcessError: it was not ready in a minute, or did not end with exit code 0 after SIGTERM.
    """
    # The tour shows the defaults, whatever the shell it runs in says about other servers.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STYLEWIRE_")}
    started = time.perf_counter()
    with log_path.open("w") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module with fixed flags
            (*_COMMAND, *arguments), stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
    with process:
        try:
            address, metrics_url = _await_ready(process, log_path)
            yield RunningServer(address=address, metrics_url=metrics_url, start_seconds=time.perf_counter() - started)
            _stop(process, log_path)
        finally:
            process.kill()  # does nothing to a process that has ended


def _await_ready(process: subprocess.Popen[str], log_path: Path) -> tuple[str, str]:
    """Read until the server names its addresses; one that hangs is killed, which ends the reading."""
    assert process.stdout is not None
    patience = threading.Timer(_START_SECONDS, process.kill)
    patience.start()
    try:
        for line in process.stdout:
            if match := _READY.search(line):
                return match[1], match[2]
    finally:
        patience.cancel()
    raise ServerProcessError(f"the server ended with exit code {process.wait()} before it was ready{_end_of(log_path)}")


def _stop(process: subprocess.Popen[str], log_path: Path) -> None:
    process.terminate()
    try:
        code = process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired as err:
        message = f"the server did not stop within {_STOP_SECONDS:.0f} s of SIGTERM{_end_of(log_path)}"
        raise ServerProcessError(message) from err
    if code != 0:
        raise ServerProcessError(f"the server ended with exit code {code} after SIGTERM{_end_of(log_path)}")


def _end_of(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").splitlines()[-15:]
    return "; its log ends with\n" + "\n".join(f"  {line}" for line in lines) if lines else "; its log is empty"
