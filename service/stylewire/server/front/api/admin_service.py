"""The RPCs of AdminService: models are loaded and unloaded while the server runs."""

from stylewire import pb
from stylewire.server.engine_api.engine import Engine
from stylewire.server.engine_api.models import ModelStatus
from stylewire.server.front.api import responses


class AdminServicer(pb.AdminServiceServicer):
    """Loads and unloads models while the server runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def LoadModel(self, request: pb.LoadModelRequest, context: object) -> pb.LoadModelResponse:  # noqa: N802, ARG002
        """Load a model of the model repository."""
        model = await self._engine.load(request.name, request.version)
        return pb.LoadModelResponse(model=self._describe(model))

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: object) -> pb.UnloadModelResponse:  # noqa: N802, ARG002
        """Retire a model."""
        models = await self._engine.unload(request.name, request.version)
        return pb.UnloadModelResponse(models=[self._describe(model) for model in models])

    async def ReloadModel(self, request: pb.ReloadModelRequest, context: object) -> pb.ReloadModelResponse:  # noqa: N802, ARG002
        """Load a model once more."""
        model = await self._engine.reload(request.name, request.version)
        return pb.ReloadModelResponse(model=self._describe(model))

    def _describe(self, model: ModelStatus) -> pb.Model:
        default = self._engine.catalog.default
        return responses.model(model, default=default is not None and default.info.key == model.info.key)
