"""Programs that a test has started."""

import socket
import subprocess
import time
from collections.abc import Callable


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port that is free, for a program that cannot tell which one it has taken; ``""`` is all hosts."""
    with socket.socket() as found:
        found.bind((host, 0))
        return found.getsockname()[1]


def wait_until(
    ready: Callable[[], object], process: subprocess.Popen, log: Callable[[], str], timeout_seconds: float = 60
):
    """Wait for a program; returns the first true answer of ``ready``.

    Raises:
        RuntimeError: with the log: the program has ended, or is not ready for so long.
    """
    until = time.monotonic() + timeout_seconds
    while not (answer := ready()):
        if process.poll() is not None or time.monotonic() > until:
            how = "takes too long" if process.returncode is None else f"ended with {process.returncode}"
            raise RuntimeError(f"{process.args[0]} {how}: {log()[-4000:]}")
        time.sleep(0.02)
    return answer


def end(process: subprocess.Popen, timeout_seconds: float = 10) -> None:
    """Ask a program to end, and end it if it does not."""
    process.terminate()
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
