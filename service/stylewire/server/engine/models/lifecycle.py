"""Loads, replaces and retires the models of a server, so that what works goes on whatever is tried beside it.

A model is loaded aside while what was there serves on: its files are verified, its graphs opened, compared with the
stored outputs and warmed up. Only then the table of models is replaced, and what is not in it any more is closed when
the last call that uses it has ended. One model is loaded at a time: they share the cores.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from stylewire.errors import ModelLoadError, RetryableError, StylewireError
from stylewire.manifest import ManifestError
from stylewire.server.config.settings import Settings
from stylewire.server.engine.models.loader import Loader, Unloaded
from stylewire.server.engine.models.model import Model
from stylewire.server.engine.models.plan import Plan
from stylewire.server.engine.models.registry import Registry
from stylewire.server.engine.models.repository import ModelVersion, Repository
from stylewire.server.engine_api.catalog import reference_order, version_order
from stylewire.server.engine_api.models import State
from stylewire.server.telemetry.metrics import Metrics
from stylewire.server.telemetry.model_series import ModelSeries

T = TypeVar("T")

log = logging.getLogger(__name__)

_PATH = re.compile(r"(?<![\w.])/(?:[^\s/:;,'\"]+/)*([^\s/:;,'\"]*)")
"""Errors for callers name no paths of this machine; the log has them."""
_SHOWN_STATES = (State.LOADING, State.READY, State.RETIRING, State.FAILED)
_TEXT_LETTERS = 300


class Lifecycle:
    """The models of a server.

    Args:
        repository: where they are.
        settings: how they run, and how many versions of one are served.
        metrics: where loads are counted and states shown.
        loader: loads directories.
        clock: monotonic seconds.

    Attributes:
        repository: as above.
        registry: the models that answer.
        plan: what should be loaded; change it within ``alone`` only.
        found: what the folder held at the start.

    Raises:
        ManifestError: the folder holds no model, or one that cannot be used.
    """

    def __init__(
        self,
        repository: Repository,
        settings: Settings,
        metrics: Metrics,
        loader: Loader,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.repository, self._settings, self._metrics, self._loader = repository, settings, metrics, loader
        self.registry = Registry(settings.default_model)
        self.plan = Plan(settings.model_versions, clock)
        self._loading: ModelVersion | None = None
        self._waiting: dict[ModelVersion, Unloaded] = {}
        self._counts: dict[str, ModelSeries] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.found = self._first_scan()
        metrics.watch_states(self.states, [state.value for state in _SHOWN_STATES])

    async def start(self) -> None:
        """Load all models; one that fails ends the start.

        Raises:
            ManifestError: a model directory is damaged.
            BackendUnavailableError: the backend or device cannot be used here.
        """
        for model_version in sorted(self._waiting, key=lambda each: reference_order(each.reference)):
            model = await self._loader.load(self._waiting[model_version])
            del self._waiting[model_version]
            self._publish([*self.registry.served, model])
            self._count(model.name, "ok")

    async def close(self) -> None:
        """Close all models; no call uses them any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        models = (*self.registry.served, *self.registry.retiring)
        await asyncio.gather(*(model.finish() for model in models))
        for model in models:  # here and now: whoever limits the time of this means what still runs
            model.free()

    async def alone(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something to the end, even if whoever asked for it leaves, while nothing else is done to the models.

        Raises:
            RetryableError: something else is being done.
        """
        if self._lock.locked():
            work.close()
            raise RetryableError("another model is being loaded; retry", retry_after_seconds=1.0)
        return await asyncio.shield(self._begin(self._locked(work)))

    async def reconcile(self, model_versions: Sequence[ModelVersion]) -> None:
        """Make the models what the folder says, as far as they can be loaded; within ``alone``."""
        self.plan.note_found(model_versions)
        served = {model.name for model in self.registry.served}
        for name in sorted(served | {model_version.name for model_version in model_versions}):
            own = [each for each in model_versions if each.name == name]
            await self._reconcile_model(name, sorted(own, key=lambda each: version_order(each.version), reverse=True))
        self._forget_counts()

    async def load(self, model_version: ModelVersion) -> Model:
        """Load a directory aside, then let it answer in the place of what had its name and version; within ``alone``.

        Raises:
            ModelLoadError: it cannot be loaded; what was there answers.
        """
        self._loading = model_version
        try:
            model = await self._loader.load(await asyncio.to_thread(self._read, model_version))
        except Exception as err:  # whatever a runtime raises, what serves goes on
            raise self._failure(model_version, err) from err
        finally:
            self._loading = None
        self._admit(model_version, model)
        return model

    def retire(self, models: Iterable[Model]) -> None:
        """Let no new call have these models, and close each when its last call has ended."""
        gone = list(models)
        self.registry.publish([model for model in self.registry.served if model not in gone])
        for model in gone:
            self.plan.note_gone(model.info.reference)
            self._drain(model)

    def retire_surplus(self, name: str, model_versions: Sequence[ModelVersion]) -> None:
        """Retire the versions of a model that should not be served; all of them only if all directories are gone."""
        kept = {each.reference for each in self.plan.kept(model_versions)}
        if kept or not model_versions:
            models = self.registry.served
            self.retire([model for model in models if model.name == name and model.info.reference not in kept])

    async def _reconcile_model(self, name: str, model_versions: Sequence[ModelVersion]) -> None:
        while due := self.plan.due(model_versions):
            try:
                await self.load(due)
            except ModelLoadError:  # noted and logged, so it is not due any more
                continue
        self.retire_surplus(name, model_versions)

    async def _locked(self, work: Coroutine[Any, Any, T]) -> T:
        async with self._lock:
            return await work

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to see it
        return task

    def _first_scan(self) -> tuple[ModelVersion, ...]:
        path = self.repository.path
        try:
            model_versions = self.repository.scan().model_versions
        except OSError as err:
            raise ManifestError(f"--models {path}: {err.strerror}") from err
        if not model_versions:
            raise ManifestError(f"{path} holds no model directory; make one with stylewire-export model")
        names = {each.name for each in model_versions}
        chosen = [each for name in names for each in self.plan.newest([e for e in model_versions if e.name == name])]
        if wrong := [each.problem for each in chosen if each.problem]:
            raise ManifestError("; ".join(wrong))
        self._waiting = {each: self._read(each) for each in chosen}
        self._publish(())
        for model_version in chosen:
            self.plan.note_loaded(model_version)
        self._check_default()
        return model_versions

    def _check_default(self) -> None:
        try:
            self.registry.catalog.find("")
        except StylewireError as err:
            known = ", ".join(self.registry.catalog.names)
            default = self._settings.default_model
            raise ManifestError(f"--default-model {default!r} is not among the models {known}") from err

    def _publish(self, models: Iterable[Model]) -> None:
        self.registry.publish(models, [unloaded.status for unloaded in self._waiting.values()])

    def _read(self, model_version: ModelVersion) -> Unloaded:
        if model_version.problem:
            raise ManifestError(model_version.problem)
        unloaded = self._loader.read(model_version.content_directory(), model_version.version)
        if unloaded.status.info.name != model_version.name:
            raise ManifestError(
                f"{model_version.directory} became another model while it was read; it will be read again"
            )
        return unloaded

    def _admit(self, model_version: ModelVersion, model: Model) -> None:
        others = [each for each in self.registry.served if each.info.reference != model.info.reference]
        replaced = [each for each in self.registry.served if each.info.reference == model.info.reference]
        self.registry.publish([*others, model])
        self.plan.note_loaded(model_version)
        self._count(model.name, "ok")
        for old in replaced:
            self._drain(old)

    def _failure(self, model_version: ModelVersion, err: Exception) -> ModelLoadError:
        """Note, count and log that a directory cannot be loaded."""
        self._count(model_version.name, "failed")
        surprising = not isinstance(err, (ManifestError, StylewireError, OSError))
        level = logging.ERROR if self.plan.note_failed(model_version) else logging.DEBUG  # once for each content
        message = "model %s could not be loaded, what was served before still is: %s"
        log.log(level, message, model_version.reference, err, exc_info=err if surprising else None)
        text = _PATH.sub(r"\1", str(err).replace(str(self.repository.path), "").partition("\n")[0])
        return ModelLoadError(f"{model_version.reference} cannot be loaded: {text[:_TEXT_LETTERS]}")

    def _drain(self, model: Model) -> None:
        self.registry.retire(model)
        self._begin(self._close(model))

    async def _close(self, model: Model) -> None:
        """Close a model when the last call that uses it has ended, however long that takes."""
        try:
            await asyncio.wait_for(model.usage.end(), self._settings.grace_seconds)
        except TimeoutError:
            if model.usage.count:
                log.warning("model %s is retired, and %d calls still use it", model.info.reference, model.usage.count)
            await model.usage.end()
        await model.close()
        self.registry.forget(model)
        self._forget_counts()
        log.info("model %s is closed", model.info.reference)

    def _count(self, name: str, result: str) -> None:
        series = self._counts.setdefault(name, self._metrics.model_series())
        for each in ("ok", "failed"):
            series.labels(self._metrics.loads, name, each)
        series.labels(self._metrics.loads, name, result).inc()

    def _forget_counts(self) -> None:
        """Leave out of the metrics what is neither loaded nor fails to be."""
        living = {name for name, _, _ in self.states()}
        for name in self._counts.keys() - living:
            self._counts.pop(name).close()

    def states(self) -> Iterator[tuple[str, str, str]]:
        """Name, version and state of everything that is loaded, or could not be."""
        for status in self.registry.catalog.models:
            yield status.info.name, status.info.version, status.state.value
        for model in tuple(self.registry.retiring):  # until their memory is free
            yield model.info.name, model.info.version, State.RETIRING.value
        if loading := self._loading:
            yield loading.name, loading.version, State.LOADING.value
        for model_version in self.plan.failed:
            yield model_version.name, model_version.version, State.FAILED.value
