"""The models that answer, found by name: a table that is replaced as a whole, so that a call sees one state of it."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from stylewire.errors import ModelNotFoundError, ModelNotReadyError
from stylewire.server.engine.models.model import Model, State
from stylewire.server.engine.models.repository import version_order

_TOKEN_LETTERS = 200
"""A longer reference names no model."""


class Table:
    """Models by name; it never changes.

    Args:
        models: in any order; no two of the same name and version.
        default: reference for requests that name none; empty for the first by name.

    Attributes:
        models: by name, and of a name from the oldest version to the newest.
    """

    def __init__(self, models: Iterable[Model], default: str = "") -> None:
        self.models = tuple(sorted(models, key=lambda model: order(model.reference)))
        self.default = default or next((model.name for model in self.models), "")
        self._by_name: Mapping[str, list[Model]] = {
            name: [model for model in self.models if model.name == name] for name in self.names
        }

    @property
    def names(self) -> list[str]:
        """The names, in order."""
        return sorted({model.name for model in self.models})

    def find(self, reference: str) -> Model:
        """Find a model by ``name`` (its newest version that is ready) or ``name@version``; empty is the default.

        Raises:
            ModelNotFoundError: there is none.
            ModelNotReadyError: the default model is not loaded.
        """
        name, at, version = (reference or self.default).partition("@")
        versions = self._by_name.get(name, [])
        if at:
            versions = [model for model in versions if version and model.version == version]
        for model in reversed(versions):
            if model.state is State.READY:
                return model
        if versions:
            return versions[-1]
        raise self._missing(reference)

    def _missing(self, reference: str) -> ModelNotFoundError | ModelNotReadyError:
        known = ", ".join(self.names) or "none"
        if not reference:
            told = f"the default model {self.default!r} is not loaded; name one: this server has {known}"
            return ModelNotReadyError(told, retry_after_seconds=1.0)
        name, short = reference.partition("@")[0], reference[:80]
        if versions := [model.version or "none" for model in self._by_name.get(name, ())]:
            known = f"{known}, and of {name!r} the version {', '.join(versions)}"
        return ModelNotFoundError(f"no model {short!r}; this server has {known}", resource=("stylewire.Model", short))


class Lease:
    """The models of one call: those that it gets stay open until it ends, and a name means one model throughout.

    Args:
        registry: where models are found.
    """

    def __init__(self, registry: "Registry") -> None:
        self._registry, self._table = registry, registry.table
        self._lock = threading.Lock()  # requests are read in threads
        self._held: list[Model] = []
        self._ended = False

    def get(self, reference: str) -> Model:
        """Find a model, and keep it open; see ``Table.find``."""
        with self._lock:
            model = self._table.find(reference)
            if model in self._held or self._ended:  # a thread may still read the request of a call that has left
                return model
            while not model.usage.take():  # closed since the call began
                self._table = self._registry.table
                model = self._table.find(reference)
            self._held.append(model)
            return model

    def end(self) -> None:
        """Give the models back."""
        with self._lock:
            self._ended = True
        for model in self._held:
            model.usage.release()


class Registry:
    """All models of a server.

    Args:
        default: reference of the model for requests that name none; empty for the first by name, of those at the start.

    Attributes:
        table: the models that answer.
        retiring: models that are not in the table any more, and not closed yet.
    """

    def __init__(self, default: str = "") -> None:
        self.table = Table((), default)
        self.retiring: list[Model] = []

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Let a call use models."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            lease.end()

    def get(self, reference: str) -> Model:
        """Find a model to look at; a call that runs it needs a lease. See ``Table.find``."""
        return self.table.find(reference)

    def publish(self, models: Iterable[Model]) -> None:
        """Let new calls see these models, and no others; on the event loop."""
        self.table = Table(models, self.table.default)

    @property
    def default(self) -> Model | None:
        """The model of requests that name none; None if it is not loaded."""
        try:
            return self.get("")
        except ModelNotReadyError:
            return None

    @property
    def ready(self) -> bool:
        """Whether there are models and all of them answer."""
        models = self.table.models
        return bool(models) and all(model.state is State.READY for model in models)

    def hung_graphs(self, hang_seconds: float) -> list[str]:
        """Name the graphs of all models with a batch that has been running for longer than that."""
        models = (*self.table.models, *self.retiring)
        return [f"{model.reference}.{graph}" for model in models for graph in model.hung_graphs(hang_seconds)]


def order(reference: str) -> tuple[str, object]:
    """Make the key that sorts ``name@version`` by name, then by version."""
    name, _, version = reference[:_TOKEN_LETTERS].partition("@")
    return name, version_order(version)
