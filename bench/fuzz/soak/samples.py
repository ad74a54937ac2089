"""What a server holds, once a second, and whether it grows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.process import Server

_ENDLESS = ("Watch", "ServerReflectionInfo")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a server holds at a moment.

    Attributes:
        seconds: on the monotonic clock.
        memory_bytes: resident.
        descriptors: open files and sockets.
        threads: of the process.
        tasks: of the event loop.
        in_flight: calls that were started and have not ended.
    """

    seconds: float
    memory_bytes: int
    descriptors: int
    threads: int
    tasks: int
    in_flight: int


def take(server: Server) -> Sample:
    """Look at a server."""
    process = Path(f"/proc/{server.pid}")
    values = dict.fromkeys(("stylewire_tasks", "grpc_server_started_total", "grpc_server_handled_total"), 0.0)
    for sample in server.metrics():
        if sample.name in values:
            values[sample.name] += sample.value
    tasks, started, handled = values.values()
    return Sample(
        seconds=time.monotonic(),
        memory_bytes=server.resident_bytes(),
        descriptors=sum(1 for _ in (process / "fd").iterdir()),
        threads=sum(1 for _ in (process / "task").iterdir()),
        tasks=int(tasks),
        in_flight=int(started - handled),
    )


def slope(samples: Sequence[Sample], name: str) -> float:
    """Fit a line through a quantity; return how much it grows in a second."""
    seconds = np.array([each.seconds for each in samples])
    values = np.array([getattr(each, name) for each in samples], np.float64)
    return float(np.polyfit(seconds - seconds[0], values, 1)[0])
