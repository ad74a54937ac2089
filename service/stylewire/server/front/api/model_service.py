"""The RPCs of ModelService: what a server can run."""

from stylewire import pb
from stylewire.errors import InvalidFieldError, Violation
from stylewire.server.engine_api.catalog import reference_order
from stylewire.server.engine_api.engine import Engine
from stylewire.server.front.api import responses

PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


class ModelServicer(pb.ModelServiceServicer):
    """What a server can run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:  # noqa: N802, ARG002
        """List models by name and version; a page token is the reference of the last model of the page before."""
        if request.page_size < 0:
            raise InvalidFieldError.of([Violation("page_size", f"is {request.page_size}; expected 0 to 1000")])
        size, after = min(request.page_size or PAGE_SIZE, MAX_PAGE_SIZE), reference_order(request.page_token)
        catalog = self._engine.catalog
        models = [model for model in catalog.models if reference_order(model.info.reference) > after]
        return pb.ListModelsResponse(
            models=[responses.model(model, default=model is catalog.default) for model in models[:size]],
            next_page_token=models[size - 1].info.reference if len(models) > size else "",
        )

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:  # noqa: N802, ARG002
        """Describe one model."""
        catalog = self._engine.catalog
        model = catalog.find(request.name)
        return pb.GetModelResponse(model=responses.model(model, default=model is catalog.default))
