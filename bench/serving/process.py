"""``stylewire serve`` as a user starts it, in a process of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stylewire.testing.launcher import ServerProcess as Server

__all__ = ["Server", "serving"]

_START_SECONDS = 600.0
_STOP_SECONDS = 60.0


@contextmanager
def serving(
    models: Path,
    *arguments: str,
    launcher: tuple[str, ...] = ("-m", "stylewire", "serve"),
    service: Path | None = None,
    log: int | IO[str] = subprocess.DEVNULL,
) -> Iterator[Server]:
    """Start a server and stop it; it runs onnxruntime, as the bare loop does.

    Args:
        models: model directory, or folder of them.
        arguments: further settings.
        launcher: what Python runs.
        service: the ``service`` folder of another checkout, to run that.
        log: where its log goes.
    """
    server = Server(
        "--models",
        str(models),
        "--backend",
        "onnxruntime",
        *arguments,
        command=launcher,
        environment={"PYTHONPATH": str(service)} if service else None,
        stderr=log,
        start_timeout_seconds=_START_SECONDS,
    )
    with server:
        yield server
        server.stop(timeout_seconds=_STOP_SECONDS)
