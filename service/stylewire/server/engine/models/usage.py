"""Who uses a model, so that one that was replaced is closed only when nobody does."""

import asyncio
import threading


class Usage:
    """Counts the users of one thing until it ends. Requests are read in threads, so they take from there too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._released = asyncio.Event()
        self._ended = False
        self.count = 0

    def take(self) -> bool:
        """Count a user; False if the thing has ended."""
        with self._lock:
            self.count += not self._ended
            return not self._ended

    def release(self) -> None:
        """Count a user less; on the event loop."""
        with self._lock:
            self.count -= 1
        self._released.set()

    async def end(self) -> None:
        """Wait until nobody uses it, and let nobody use it from then on."""
        while not self._try_end():
            self._released.clear()
            await self._released.wait()

    def _try_end(self) -> bool:
        with self._lock:
            self._ended = self._ended or not self.count
            return self._ended
