"""What an administrator asks for: load, unload or reload a model by its name, now."""

import asyncio

from stylewire.errors import ModelLoadError, ModelNotFoundError
from stylewire.server.engine.models.lifecycle import Lifecycle
from stylewire.server.engine.models.model import Model
from stylewire.server.engine.models.repository import ModelVersion
from stylewire.server.engine_api.catalog import reference_order
from stylewire.server.engine_api.models import ModelStatus


class Operations:
    """Operations on the models of a server, one at a time.

    Args:
        lifecycle: of the models.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    async def load(self, name: str, version: str) -> ModelStatus:
        """Load a directory of the models folder; what is loaded as it is stays as it is.

        Args:
            name: of the model.
            version: of the model, which then stays beside newer ones; empty for the newest.

        Raises:
            ModelNotFoundError: there is no such directory.
            ModelLoadError: it cannot be loaded.
            RetryableError: another model is being loaded.
        """
        return await self._lifecycle.alone(self._load(name, version))

    async def unload(self, name: str, version: str) -> list[ModelStatus]:
        """Retire a version of a model, or all of them; none of those comes back by itself while it is as it is.

        Raises:
            ModelNotFoundError: no such model is loaded.
            RetryableError: another model is being loaded.
        """
        return await self._lifecycle.alone(self._unload(name, version))

    async def reload(self, name: str, version: str) -> ModelStatus:
        """Load a model that is loaded once more, changed or not; an empty version is the newest one loaded.

        Raises:
            ModelNotFoundError: no such model is loaded.
            ModelLoadError: it cannot be loaded; what was there answers.
            RetryableError: another model is being loaded.
        """
        return await self._lifecycle.alone(self._reload(name, version))

    async def _load(self, name: str, version: str) -> ModelStatus:
        model_versions = await self._model_versions(name)
        chosen = next((each for each in model_versions if not version or each.version == version), None)
        if chosen is None:
            raise _not_found(_reference(name, version), "the models folder has none of this name and version")
        plan = self._lifecycle.plan
        plan.ask_for(chosen, pinned=bool(version))
        if not plan.is_loaded(chosen):
            await self._lifecycle.load(chosen)
            self._lifecycle.retire_surplus(name, model_versions)
        return self._lifecycle.registry.catalog.find(chosen.reference)

    async def _unload(self, name: str, version: str) -> list[ModelStatus]:
        models = self._loaded(name, version)
        model_versions = await self._model_versions(name)
        self._lifecycle.plan.leave_out([each for each in model_versions if not version or each.version == version])
        self._lifecycle.retire(models)
        return [model.status for model in models]

    async def _reload(self, name: str, version: str) -> ModelStatus:
        reference = self._loaded(name, version)[-1].info.reference
        model_version = next((each for each in await self._model_versions(name) if each.reference == reference), None)
        if model_version is None:
            raise ModelLoadError(f"{reference} cannot be loaded: its directory is gone; unload it, or bring it back")
        return (await self._lifecycle.load(model_version)).status

    async def _model_versions(self, name: str) -> list[ModelVersion]:
        """Scan for a model in the folder; the newest version comes first."""
        try:
            scan = await asyncio.to_thread(self._lifecycle.repository.scan)
        except OSError as err:
            raise ModelLoadError(f"the models folder cannot be read: {err.strerror}") from err
        return [each for each in scan.model_versions if each.name == name]

    def _loaded(self, name: str, version: str) -> list[Model]:
        """Find what is loaded of a model; the newest version comes last."""
        models = sorted(self._lifecycle.registry.served, key=lambda model: reference_order(model.info.reference))
        found = [model for model in models if model.name == name and version in ("", model.info.version)]
        if not found:
            raise _not_found(_reference(name, version), "nothing of this name and version is loaded")
        return found


def _reference(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name


def _not_found(reference: str, why: str) -> ModelNotFoundError:
    short = reference[:80]
    return ModelNotFoundError(f"no model {short!r}: {why}", resource=("stylewire.Model", short))
