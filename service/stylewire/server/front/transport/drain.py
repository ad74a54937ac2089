"""The last part of a drain: new calls are refused, and those in flight end."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from stylewire.errors import DrainingError
from stylewire.server.telemetry.metrics import Method

_LEAST_SECONDS = 0.25
"""How long calls are refused: one that arrives while gRPC itself closes gets CANCELLED, which no client retries."""
_OURS = ("stylewire.", "inference.")


def is_work(method: Method) -> bool:
    """Return whether a method is what the server is there for; health and reflection are not."""
    return method.service.startswith(_OURS)


class Drain:
    """Counts the calls of this server's own services; those of health and reflection are not counted.

    Attributes:
        draining: whether new calls are refused.
    """

    def __init__(self) -> None:
        self._count = 0
        self.draining = False
        self._empty = asyncio.Event()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count a call while it is in flight.

        Raises:
            DrainingError: the server drains.
        """
        if self.draining:
            raise DrainingError("the server is stopping; send the request to another one")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            if self.draining and not self._count:
                self._empty.set()

    async def drain(self, seconds: float) -> None:
        """Refuse new calls, and wait until none is in flight, so long at most."""
        started = time.monotonic()
        self.draining = True
        if self._count:
            try:
                await asyncio.wait_for(self._empty.wait(), seconds)
            except TimeoutError:
                return
        await asyncio.sleep(min(seconds, max(0.0, started + _LEAST_SECONDS - time.monotonic())))
