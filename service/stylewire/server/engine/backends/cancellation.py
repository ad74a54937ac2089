"""Those who wait for a batch, for backends that can end a run early: what computes elsewhere may be stopped."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol


class Waiters(Protocol):
    """Those who wait for the batch that runs."""

    @property
    def deadline(self) -> float | None:
        """When the last of them stops to wait, in seconds of ``time.monotonic``; None: somebody has no deadline."""
        ...

    def on_cancelled(self, call: Callable[[], object]) -> None:
        """Have something called when all have left, in any thread, perhaps twice; at once if they have."""
        ...


WAITERS: ContextVar[Waiters | None] = ContextVar("waiters", default=None)
"""Those who wait for what runs in this thread; None for a self-check or a warm-up. The batcher sets it."""
