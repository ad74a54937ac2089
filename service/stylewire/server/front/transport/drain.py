"""The last part of a drain: new calls are refused, and those in flight end."""

import asyncio
import time

from stylewire.errors import DrainingError
from stylewire.server.telemetry.metrics import Method

_LEAST_SECONDS = 0.25
"""How long calls are refused: one that arrives while gRPC itself closes gets CANCELLED, which no client retries."""
_OURS = ("stylewire.", "inference.")


def is_work(method: Method) -> bool:
    """Return whether a method is what the server is there for; health and reflection are not."""
    return method.service.startswith(_OURS)


class Drain:
    """The calls in flight of this server's own services; those of health and reflection are not counted.

    The interceptor counts them, since it sees every beginning and every end.

    Attributes:
        draining: whether new calls are refused.
        calls: in flight.
    """

    def __init__(self) -> None:
        self.draining, self.calls = False, 0
        self._empty = asyncio.Event()

    def refusal(self) -> DrainingError:
        """Return what a new call gets."""
        return DrainingError("the server is stopping; send the request to another one")

    def ended(self) -> None:
        """Note that a call ended while the server drains."""
        if not self.calls:
            self._empty.set()

    async def drain(self, seconds: float) -> None:
        """Refuse new calls, and wait until none is in flight, so long at most."""
        started = time.monotonic()
        self.draining = True
        if self.calls:
            try:
                await asyncio.wait_for(self._empty.wait(), seconds)
            except TimeoutError:
                return
        await asyncio.sleep(min(seconds, max(0.0, started + _LEAST_SECONDS - time.monotonic())))
