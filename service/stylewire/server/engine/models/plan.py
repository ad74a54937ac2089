"""Which model versions should be loaded: the newest that can be, and what an administrator asked for. No I/O here."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stylewire.server.engine.models.repository import ModelVersion, Signature

_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 60.0, 3600.0
"""Content that could not be loaded is tried again, ever more rarely: the reason may have been something else."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Content that could not be loaded.

    Attributes:
        model_version: the directory as it was.
        count: how often this content was tried.
        retry_at: when it is tried again, on the plan's clock.
    """

    model_version: ModelVersion
    count: int
    retry_at: float


class Plan:
    """Decides what is loaded next, and what stays.

    Args:
        version_count: newest versions of a model that are served at once.
        clock: returns monotonic seconds.
    """

    def __init__(self, version_count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._version_count, self._clock = version_count, clock
        self._loaded: dict[str, Signature] = {}
        self._failures: dict[str, Failure] = {}
        self._left_out: dict[str, Signature] = {}
        self._pinned: set[str] = set()

    @property
    def failed(self) -> Iterator[ModelVersion]:
        """What could not be loaded, as it is."""
        return (failure.model_version for failure in tuple(self._failures.values()))

    def newest(self, model_versions: Sequence[ModelVersion]) -> Sequence[ModelVersion]:
        """Return as many versions of one model as are served, whatever is known against them."""
        return model_versions[: self._version_count]

    def wanted(self, model_versions: Sequence[ModelVersion]) -> list[ModelVersion]:
        """Return those versions of one model that should be served.

        Args:
            model_versions: of one model, the newest version first.
        """
        usable = [each for each in model_versions if self._usable(each)]
        pinned = [each for each in usable[self._version_count :] if each.reference in self._pinned]
        return [*self.newest(usable), *pinned]

    def due(self, model_versions: Sequence[ModelVersion]) -> ModelVersion | None:
        """Return the version of one model that should be loaded next; None if all are as they should be."""
        wanted = self.wanted(model_versions)
        return next((each for each in wanted if not self.is_loaded(each) and self._may_try(each)), None)

    def kept(self, model_versions: Sequence[ModelVersion]) -> list[ModelVersion]:
        """Return those versions of one model that should stay, of those that are loaded."""
        return self.wanted([each for each in model_versions if each.reference in self._loaded])

    def is_loaded(self, model_version: ModelVersion) -> bool:
        """Return whether this very content is loaded."""
        return self._loaded.get(model_version.reference) == model_version.signature

    def note_loaded(self, model_version: ModelVersion) -> None:
        """Note that this content is loaded."""
        self._loaded[model_version.reference] = model_version.signature
        self._failures.pop(model_version.reference, None)

    def note_failed(self, model_version: ModelVersion) -> bool:
        """Note that this content cannot be loaded; return whether that is news."""
        known = self._failures.get(model_version.reference)
        count = known.count + 1 if known and known.model_version.signature == model_version.signature else 1
        wait = min(_LONGEST_RETRY_SECONDS, _RETRY_SECONDS * 2 ** (count - 1))
        self._failures[model_version.reference] = Failure(model_version, count, self._clock() + wait)
        return count == 1

    def note_gone(self, reference: str) -> None:
        """Note that something is not loaded any more."""
        self._loaded.pop(reference, None)
        self._pinned.discard(reference)

    def note_found(self, model_versions: Sequence[ModelVersion]) -> None:
        """Forget what was known of directories that are not there any more."""
        found = {each.reference for each in model_versions}
        self._failures = {key: failure for key, failure in self._failures.items() if key in found}
        self._left_out = {key: signature for key, signature in self._left_out.items() if key in found}

    def ask_for(self, model_version: ModelVersion, *, pinned: bool) -> None:
        """Forget what speaks against a directory; pinned, it stays whatever newer versions there are."""
        self._left_out.pop(model_version.reference, None)
        if pinned:
            self._pinned.add(model_version.reference)

    def leave_out(self, model_versions: Sequence[ModelVersion]) -> None:
        """Load none of these by themselves until their content changes."""
        self._left_out |= {each.reference: each.signature for each in model_versions}

    def _usable(self, model_version: ModelVersion) -> bool:
        """Return whether it can be served: what is loaded can, whatever becomes of its directory."""
        return model_version.reference in self._loaded or self._may_try(model_version)

    def _may_try(self, model_version: ModelVersion) -> bool:
        failure = self._failures.get(model_version.reference)
        if failure and failure.model_version.signature == model_version.signature and self._clock() < failure.retry_at:
            return False
        return model_version.settled and self._left_out.get(model_version.reference) != model_version.signature
