"""``AsyncClient``: the RPCs as methods, for asyncio; ``sync.py`` has the same for threads."""
# ruff: noqa: ASYNC109 - a deadline travels to the server, which then refuses in time; asyncio.timeout stays here

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Unpack

from stylewire import pb
from stylewire.client import requests, results
from stylewire.client.bulk import CallWindow, stream_results_async
from stylewire.client.connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, AsyncConnection, unread
from stylewire.client.inputs import LatentLike, PhotoLike
from stylewire.client.options import (
    GenerateOptions,
    InterpolateOptions,
    InvertOptions,
    ManyOptions,
    MixOptions,
    ProjectOptions,
    VideoOptions,
    forwards_to,
)
from stylewire.client.projections import Projection, ProjectionProgress, ProjectionReader
from stylewire.client.requests import Styles
from stylewire.client.results import Frame, Inversion, Result
from stylewire.client.videos import AsyncVideo
from stylewire.security import Security


class AsyncClient(AsyncConnection):
    """``Client`` for asyncio: the same methods, awaited. Make it inside a running event loop.

    Args:
        address: ``host:port`` or any gRPC target, such as ``dns:///stylewire:8500``.
        timeout: deadline of a call in seconds, when the call has none of its own.
        security: TLS and token; None means neither.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        security: Security | None = None,
    ) -> None:
        super().__init__(address, timeout=timeout, security=security)
        self._stylegan = pb.StyleGanServiceStub(self._channel)
        self._models = pb.ModelServiceStub(self._channel)
        self._described: dict[str, pb.Model] = {}

    @forwards_to(requests.generate_request)
    async def generate(
        self,
        latents: LatentLike | Iterable[LatentLike],
        *,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Result]:
        """Make one picture from each latent; see ``Client.generate``."""
        request = requests.generate_request(latents, **options)
        response = await self._call(self._stylegan.Generate, request, timeout)
        return results.read_generate(response, request)

    @forwards_to(CallWindow)
    def generate_many(
        self, latents: Iterable[LatentLike], *, timeout: float | None = None, **options: Unpack[ManyOptions]
    ) -> AsyncIterator[Result]:
        """Make one picture from each of any number of latents: ``async for``; see ``Client.generate_many``."""
        deadline = timeout
        window = CallWindow(lambda request: self._stylegan.Generate(request, timeout=deadline), latents, **options)
        return stream_results_async(window, self.address)

    @forwards_to(requests.invert_request)
    async def invert(
        self, picture: PhotoLike, *, timeout: float | None = None, **options: Unpack[InvertOptions]
    ) -> Inversion:
        """Find the code of a picture; see ``Client.invert``."""
        request = requests.invert_request(picture, **options)
        response = await self._call(self._stylegan.Invert, request, timeout)
        return results.read_invert(response)

    @forwards_to(requests.project_request)
    async def project(
        self,
        picture: PhotoLike,
        *,
        on_progress: Callable[[ProjectionProgress], None] | None = None,
        timeout: float | None = None,
        **options: Unpack[ProjectOptions],
    ) -> Projection:
        """Find the code of a picture by optimization; see ``Client.project``."""
        request, reader = requests.project_request(picture, **options), ProjectionReader(on_progress)
        stream = self._stream(self._stylegan.Project, request, timeout, unread)
        async with contextlib.aclosing(stream):
            async for response in stream:
                reader.read(response)
        return reader.result()

    @forwards_to(requests.mix_request)
    async def mix_styles(
        self, content: LatentLike, styles: Styles, *, timeout: float | None = None, **options: Unpack[MixOptions]
    ) -> Result:
        """Replace layers of one latent's code by those of others; see ``Client.mix_styles``."""
        chosen = requests.to_styles(styles, options.get("psi"))
        described = await self._describe(options.get("model", "")) if requests.needs_model(chosen) else None
        request = requests.mix_request(content, chosen, described, **options)
        response = await self._call(self._stylegan.MixStyles, request, timeout)
        requests.forget_replaced(self._described, options.get("model", ""), response.model_digest)
        return results.read_mix(response)

    @forwards_to(requests.interpolate_request)
    def interpolate(
        self,
        keyframes: Iterable[LatentLike],
        frame_count: int,
        *,
        timeout: float | None = None,
        **options: Unpack[InterpolateOptions],
    ) -> AsyncIterator[Frame]:
        """Interpolate between keyframes: ``async for frame in client.interpolate(...)``; see ``Client.interpolate``."""
        request = requests.interpolate_request(keyframes, frame_count, **options)
        return self._stream(self._stylegan.Interpolate, request, timeout, results.read_frame)

    @forwards_to(requests.video_request)
    def interpolate_video(
        self,
        keyframes: Iterable[LatentLike],
        frame_count: int,
        *,
        timeout: float | None = None,
        **options: Unpack[VideoOptions],
    ) -> AsyncVideo:
        """Interpolate between keyframes in a video file; see ``Client.interpolate_video``."""
        request = requests.video_request(keyframes, frame_count, **options)
        return AsyncVideo(
            self._stream(self._stylegan.Interpolate, request, timeout, unread),
            options.get("container", "mp4"),
        )

    async def models(self, *, timeout: float | None = None) -> list[pb.Model]:
        """List the server's models in the order of their names."""
        found: list[pb.Model] = []
        request = pb.ListModelsRequest()
        while True:
            response = await self._call(self._models.ListModels, request, timeout)
            found.extend(response.models)
            if not response.next_page_token:
                return found
            request = pb.ListModelsRequest(page_token=response.next_page_token)

    async def model(self, name: str = "", *, timeout: float | None = None) -> pb.Model:
        """Describe one model; an empty name means the server's default model."""
        return (await self._call(self._models.GetModel, pb.GetModelRequest(name=name), timeout)).model

    async def _describe(self, name: str) -> pb.Model:
        if name not in self._described:
            self._described[name] = await self.model(name)
        return self._described[name]
