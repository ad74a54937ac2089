"""Callers of the SDK, each of whom makes the next call when the last one has ended."""

import asyncio
import itertools
import threading
import time
from contextlib import AbstractContextManager

from stylewire import AsyncClient

PAUSE_SECONDS = 0.02
"""Between two calls of a caller, so that a machine of two cores is not the one that is tested."""
WALK_FRAMES = 4
TIMEOUT_SECONDS = 30.0


class Load(AbstractContextManager):
    """Calls until it is left, then waits for the last ones.

    Args:
        address: as the SDK takes it.
        callers: how many.
        walks: whether every fourth call is a walk of ``WALK_FRAMES``; the others make one picture.

    Attributes:
        sent: calls that were made.
        answered: those that were answered in full.
        pictures: in their answers.
        errors: what the others ended with.
        longest_seconds: what the slowest call took.
    """

    def __init__(self, address: str, *, callers: int = 8, walks: bool = False) -> None:
        self.sent = self.answered = self.pictures = 0
        self.errors: list[Exception] = []
        self.longest_seconds = 0.0
        self._address, self._callers, self._walks = address, callers, walks
        self._numbers = itertools.count()
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._play()), name="load")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._stopping = True
        self._thread.join()

    @property
    def in_flight(self) -> int:
        """Calls without an answer."""
        return self.sent - self.answered - len(self.errors)

    def wait_for(self, count: int, timeout_seconds: float = 60) -> None:
        """Wait until so many more calls are answered."""
        wanted, until = self.answered + count, time.monotonic() + timeout_seconds
        while self.answered < wanted:
            assert time.monotonic() < until, f"{self.answered} of {wanted} answered, {len(self.errors)} failed"
            time.sleep(0.01)

    async def _play(self) -> None:
        async with AsyncClient(self._address, timeout=TIMEOUT_SECONDS) as client:
            await asyncio.gather(*(self._call_in_turn(client) for _ in range(self._callers)))

    async def _call_in_turn(self, client) -> None:
        while not self._stopping:
            started = time.monotonic()
            self.sent += 1
            try:
                pictures = await self._call(client, next(self._numbers))
                self.pictures, self.answered = self.pictures + pictures, self.answered + 1
            except Exception as err:  # noqa: BLE001 - counted
                self.errors.append(err)
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - started)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _call(self, client, number: int) -> int:
        if self._walks and number % 4 == 3:
            return len([frame async for frame in client.interpolate([number, number + 1], WALK_FRAMES)])
        return len(await client.generate(number))
