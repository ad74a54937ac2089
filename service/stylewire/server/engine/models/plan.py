"""What should be loaded: the newest versions that can be, and what an administrator asked for. Nothing is done here."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stylewire.server.engine.models.repository import Entry, Signature

_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 60.0, 3600.0
"""Content that could not be loaded is tried again, ever more rarely: the reason may have been something else."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Content that could not be loaded.

    Attributes:
        entry: the directory as it was.
        count: how often this content was tried.
        retry_at: when it is tried again, on the plan's clock.
    """

    entry: Entry
    count: int
    retry_at: float


class Plan:
    """Says what is to be loaded next, and what is to stay.

    Args:
        version_count: newest versions of a model that are served at once.
        clock: monotonic seconds; tests give their own.
    """

    def __init__(self, version_count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._version_count, self._clock = version_count, clock
        self._loaded: dict[str, Signature] = {}
        self._failures: dict[str, Failure] = {}
        self._left_out: dict[str, Signature] = {}
        self._pinned: set[str] = set()

    @property
    def failed(self) -> Iterator[Entry]:
        """The directories that could not be loaded as they are."""
        return (failure.entry for failure in tuple(self._failures.values()))

    def newest(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Take as many versions of one model as are served, whatever is known against them."""
        return entries[: self._version_count]

    def wanted(self, entries: Sequence[Entry]) -> list[Entry]:
        """Take those versions of one model that should be served.

        Args:
            entries: of one model, the newest version first.
        """
        usable = [entry for entry in entries if self._usable(entry)]
        pinned = [entry for entry in usable[self._version_count :] if entry.reference in self._pinned]
        return [*self.newest(usable), *pinned]

    def due(self, entries: Sequence[Entry]) -> Entry | None:
        """Take the version of one model that should be loaded next; None if all are as they should be."""
        wanted = self.wanted(entries)
        return next((entry for entry in wanted if not self.is_loaded(entry) and self._may_try(entry)), None)

    def kept(self, entries: Sequence[Entry]) -> list[Entry]:
        """Take those versions of one model that should stay, of those that are loaded."""
        return self.wanted([entry for entry in entries if entry.reference in self._loaded])

    def is_loaded(self, entry: Entry) -> bool:
        """Whether this very content is loaded."""
        return self._loaded.get(entry.reference) == entry.signature

    def note_loaded(self, entry: Entry) -> None:
        """Note that this content is loaded."""
        self._loaded[entry.reference] = entry.signature
        self._failures.pop(entry.reference, None)

    def note_failed(self, entry: Entry) -> bool:
        """Note that this content cannot be loaded; says whether that is news."""
        known = self._failures.get(entry.reference)
        count = known.count + 1 if known and known.entry.signature == entry.signature else 1
        wait = min(_LONGEST_RETRY_SECONDS, _RETRY_SECONDS * 2 ** (count - 1))
        self._failures[entry.reference] = Failure(entry, count, self._clock() + wait)
        return count == 1

    def note_gone(self, reference: str) -> None:
        """Note that something is not loaded any more."""
        self._loaded.pop(reference, None)
        self._pinned.discard(reference)

    def note_found(self, entries: Sequence[Entry]) -> None:
        """Forget what was known of directories that are not there any more."""
        found = {entry.reference for entry in entries}
        self._failures = {key: failure for key, failure in self._failures.items() if key in found}
        self._left_out = {key: signature for key, signature in self._left_out.items() if key in found}

    def ask_for(self, entry: Entry, *, pinned: bool) -> None:
        """Forget what speaks against a directory; pinned, it stays whatever newer versions there are."""
        self._left_out.pop(entry.reference, None)
        if pinned:
            self._pinned.add(entry.reference)

    def leave_out(self, entries: Sequence[Entry]) -> None:
        """Load none of these by themselves until their content changes."""
        self._left_out |= {entry.reference: entry.signature for entry in entries}

    def _usable(self, entry: Entry) -> bool:
        """What is loaded stays usable whatever becomes of its directory."""
        return entry.reference in self._loaded or self._may_try(entry)

    def _may_try(self, entry: Entry) -> bool:
        failure = self._failures.get(entry.reference)
        if failure and failure.entry.signature == entry.signature and self._clock() < failure.retry_at:
            return False
        return entry.settled and self._left_out.get(entry.reference) != entry.signature
