"""The models that are loaded: which of them new calls find, and which are still used by old ones."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from stylewire.errors import StylewireError
from stylewire.server.engine.models.model import Model
from stylewire.server.engine_api.catalog import Catalog
from stylewire.server.engine_api.models import ModelInfo, ModelStatus, State


class Registry:
    """All models of an engine.

    Args:
        default: reference of the model for requests that name none; empty for the first by name, of those at the start.

    Attributes:
        catalog: what new calls find.
        served: the models in it that are loaded.
        retiring: models that are not in it any more, and not closed yet.
        by_key: all of both, by the keys of their infos.
    """

    def __init__(self, default: str = "") -> None:
        self.catalog = Catalog((), default)
        self.served: tuple[Model, ...] = ()
        self.retiring: list[Model] = []
        self.by_key: dict[int, Model] = {}

    def publish(self, models: Iterable[Model], loading: Iterable[ModelStatus] = ()) -> None:
        """Let new calls find these models, and no others; on the event loop.

        Args:
            models: loaded.
            loading: those that are not loaded yet; calls of them are refused.
        """
        self.served = tuple(models)
        self.by_key = {model.info.key: model for model in (*self.served, *self.retiring)}
        statuses = [*(model.status for model in self.served), *loading]
        self.catalog = Catalog(statuses, self.catalog.default_reference)

    def retire(self, model: Model) -> None:
        """Keep a model, which is not served any more, for the calls that have it."""
        model.retire()
        self.retiring.append(model)
        self.by_key[model.info.key] = model

    def forget(self, model: Model) -> None:
        """Forget a model that retired and is closed."""
        self.retiring.remove(model)
        self.by_key.pop(model.info.key, None)

    def model(self, info: ModelInfo) -> Model | None:
        """Return the model that is loaded; None if it is not, or not any more."""
        return self.by_key.get(info.key)

    @contextmanager
    def lease(self) -> Iterator["Lease"]:
        """Let a call use models."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            lease.end()

    def hung_graphs(self, hang_seconds: float) -> list[str]:
        """Name the graphs of all models with a batch that has been running for longer than that."""
        models = (*self.served, *self.retiring)
        return [f"{model.info.reference}.{graph}" for model in models for graph in model.hung_graphs(hang_seconds)]


class Lease:
    """The models of one call; see ``engine_api.engine.Lease``.

    Args:
        registry: where models are found.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry, self._catalog = registry, registry.catalog
        self._lock = threading.Lock()  # requests are read in threads
        self._found: dict[int, ModelStatus] = {}
        self._held: list[Model] = []
        self._ended = False

    def get(self, reference: str) -> ModelInfo:
        """Find a model, and keep it open; see ``Catalog.find``."""
        with self._lock:
            while True:
                status = self._catalog.find(reference)
                info = status.info
                # A thread may still read the request of a call that has ended.
                if info.key in self._found or self._ended or status.state is State.LOADING or self._hold(info):
                    self._found[info.key] = status
                    return info
                self._catalog = self._registry.catalog  # closed since the call began

    def refusal(self, model: ModelInfo, graph: str) -> StylewireError | None:
        """Return why a graph of a model that was found cannot run; None if it can."""
        status = self._found[model.key]
        return None if graph in status.runnable else status.refusal(graph)

    def end(self) -> None:
        """Return the models."""
        with self._lock:
            self._ended = True
        for model in self._held:
            model.usage.release()

    def _hold(self, info: ModelInfo) -> bool:
        model = self._registry.model(info)
        if model is None or not model.usage.take():
            return False
        self._held.append(model)
        return True
