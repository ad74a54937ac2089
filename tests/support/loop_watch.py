"""How long callbacks hold an event loop."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from unittest import mock


@dataclass
class LoopWatch:
    """The callbacks of one loop, each with its time.

    Two clocks, because each alone is fooled: the processor time of the loop's thread does not run while the operating
    system runs another process or another thread has the GIL, but neither while the callback sleeps; the wall clock
    runs on in all three cases.

    Attributes:
        cpu_seconds: of the longest callback by processor time, with its name.
        wall_seconds: of the longest callback by the wall clock, with its name.
        count: callbacks that ran.
    """

    cpu_seconds: tuple[float, str] = (0.0, "")
    wall_seconds: tuple[float, str] = (0.0, "")
    count: int = 0
    _names: list[str] = field(default_factory=list)

    def note(self, handle: asyncio.Handle, cpu_seconds: float, wall_seconds: float) -> None:
        self.count += 1
        if cpu_seconds > self.cpu_seconds[0]:
            self.cpu_seconds = (cpu_seconds, repr(handle))
        if wall_seconds > self.wall_seconds[0]:
            self.wall_seconds = (wall_seconds, repr(handle))


@contextlib.contextmanager
def watched(loop: asyncio.AbstractEventLoop) -> Iterator[LoopWatch]:
    """Time every callback that a loop of another thread runs."""
    watch = LoopWatch()
    run = asyncio.Handle._run

    def timed(handle):
        if handle._loop is not loop:
            return run(handle)
        cpu, wall = time.thread_time(), time.perf_counter()
        try:
            return run(handle)
        finally:
            watch.note(handle, time.thread_time() - cpu, time.perf_counter() - wall)

    with mock.patch.object(asyncio.Handle, "_run", timed):
        yield watch
