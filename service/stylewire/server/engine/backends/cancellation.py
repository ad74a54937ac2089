"""Those who wait for a batch, for backends that can end a run early: what computes elsewhere may be told to stop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Audience(Protocol):
    """Those who wait for the batch that runs."""

    @property
    def deadline(self) -> float | None:
        """When the last of them stops to wait, in seconds of ``time.monotonic``; None: somebody has no deadline."""
        ...

    def on_cancelled(self, call: Callable[[], object]) -> None:
        """Have something called when all have left, in any thread, perhaps twice; at once if they have."""
        ...


_AUDIENCE: ContextVar[Audience | None] = ContextVar("audience", default=None)


@contextmanager
def before(audience: Audience) -> Iterator[None]:
    """Run a batch for these; a backend asks ``current`` in the thread that runs it."""
    token = _AUDIENCE.set(audience)
    try:
        yield
    finally:
        _AUDIENCE.reset(token)


def current() -> Audience | None:
    """Those who wait for what runs in this thread; None for a self-check or a warm-up."""
    return _AUDIENCE.get()
