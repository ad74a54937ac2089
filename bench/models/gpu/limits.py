"""Time: what is left of the whole, and how long one thing may take."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Clock:
    """Counts down.

    Args:
        seconds: that there are.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left."""
        return self._end - time.monotonic()


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Return up what takes longer; for the main thread.

    Raises:
        TimeoutError: it took longer.
    """

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
