"""How a name finds a model."""

import re
from collections.abc import Iterable

from stylewire.errors import ModelNotFoundError, ModelNotReadyError
from stylewire.server.engine_api.models import ModelStatus, State

_REFERENCE_CHARACTERS = 200
"""A longer reference names no model."""


class Catalog:
    """The models that answer, at one moment: replaced as a whole, so that a call sees one state of it.

    Args:
        models: in any order; no two of the same name and version.
        default: reference for requests that name none; empty for the first by name.

    Attributes:
        models: by name, and of a name from the oldest version to the newest.
        answering: name -> its newest version that is ready; the empty name is the default.
    """

    def __init__(self, models: Iterable[ModelStatus], default: str = "") -> None:
        self.models = tuple(sorted(models, key=lambda model: reference_order(model.info.reference)))
        self.default_reference = default or next((model.info.name for model in self.models), "")
        self._by_name: dict[str, list[ModelStatus]] = {}
        for model in self.models:
            self._by_name.setdefault(model.info.name, []).append(model)
        self.answering = {model.info.name: model for model in self.models if model.state is State.READY}
        if self.default_reference in self.answering:
            self.answering[""] = self.answering[self.default_reference]

    @property
    def names(self) -> list[str]:
        """The names, in order."""
        return list(self._by_name)

    @property
    def default(self) -> ModelStatus | None:
        """The model of requests that name none; None if it is not loaded."""
        try:
            return self.find("")
        except ModelNotReadyError:
            return None

    @property
    def ready(self) -> bool:
        """Whether there are models and all of them answer."""
        return bool(self.models) and all(model.state is State.READY for model in self.models)

    def versions(self, name: str) -> list[ModelStatus]:
        """Return the versions of a model, the newest last."""
        return list(self._by_name.get(name, ()))

    def find(self, reference: str) -> ModelStatus:
        """Find a model by ``name`` (its newest version that is ready) or ``name@version``; empty is the default.

        Raises:
            ModelNotFoundError: there is none.
            ModelNotReadyError: the default model is not loaded.
        """
        if found := self.answering.get(reference):
            return found
        name, at, version = (reference or self.default_reference).partition("@")
        versions = self._by_name.get(name, [])
        if at:
            versions = [model for model in versions if version and model.info.version == version]
        if versions:
            return versions[-1]  # the only one, or the newest where none is ready
        raise self._missing(reference)

    def _missing(self, reference: str) -> ModelNotFoundError | ModelNotReadyError:
        known = ", ".join(self.names) or "none"
        if not reference:
            message = f"the default model {self.default_reference!r} is not loaded; name one: this server has {known}"
            return ModelNotReadyError(message, retry_after_seconds=1.0)
        name, short = reference.partition("@")[0], reference[:80]
        if versions := [model.info.version or "none" for model in self.versions(name)]:
            known = f"{known}, and of {name!r} the version {', '.join(versions)}"
        return ModelNotFoundError(f"no model {short!r}; this server has {known}", resource=("stylewire.Model", short))


def reference_order(reference: str) -> tuple[str, object]:
    """Make the key that sorts ``name@version`` by name, then by version."""
    name, _, version = reference[:_REFERENCE_CHARACTERS].partition("@")
    return name, version_order(version)


def version_order(version: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Make the key that sorts versions as people do: 2 before 10, 1.9 before 1.10, no version before any."""
    parts = re.findall(r"[0-9]+|[^0-9]+", version)
    return tuple((1, int(part), "") if part[0] in "0123456789" else (0, 0, part) for part in parts), version
