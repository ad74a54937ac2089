"""Whether calls may still come in: the last part of a drain."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from stylewire.errors import DrainingError
from stylewire.server.telemetry.metrics import Method

_LEAST_SECONDS = 0.25
"""How long it says no: a call that arrives while gRPC itself closes gets CANCELLED, which no client tries again."""
_OURS = ("stylewire.", "inference.")


def is_work(method: Method) -> bool:
    """Whether a method is what the server is there for; health and reflection are not."""
    return method.service.startswith(_OURS)


class Gate:
    """Counts the calls of this server's own services; those of health and reflection pass uncounted."""

    def __init__(self) -> None:
        self._count = 0
        self._closed = False
        self._empty = asyncio.Event()

    @contextmanager
    def passed(self, method: Method) -> Iterator[None]:
        """Count a call while it is under way.

        Raises:
            DrainingError: the gate is closed.
        """
        if not is_work(method):
            yield
            return
        if self._closed:
            raise DrainingError("the server is stopping; send the request to another one")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            if self._closed and not self._count:
                self._empty.set()

    async def close(self, seconds: float) -> None:
        """Refuse what comes, and wait until nothing is under way, so long at most."""
        started = time.monotonic()
        self._closed = True
        if self._count:
            try:
                await asyncio.wait_for(self._empty.wait(), seconds)
            except TimeoutError:
                return
        await asyncio.sleep(min(seconds, max(0.0, started + _LEAST_SECONDS - time.monotonic())))
