"""``Client``: the RPCs as methods, for threads; ``aio.py`` has the same for asyncio.

Requests are made in ``requests.py``, responses read in ``results.py``, errors translated in ``connection.py``; here are
only the calls.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Unpack

from stylewire import pb
from stylewire.client import requests, results
from stylewire.client.bulk import CallWindow, stream_results
from stylewire.client.connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, Connection, unread
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
from stylewire.client.videos import Video
from stylewire.security import Security


class Client(Connection):
    """A client of a stylewire server, for threads.

    A client may be shared by threads and should live long: it holds one connection. Every method raises a
    ``StylewireError`` of the class that the server raised.

    Args:
        address: ``host:port`` or any gRPC target, such as ``dns:///stylewire:8500``.
        timeout: deadline of a call in seconds, when the call has none of its own.
        security: TLS and token; None means neither.

    Raises:
        OSError: a file of ``security`` cannot be read.
        ValueError: the token would travel in the clear.
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
    def generate(
        self,
        latents: LatentLike | Iterable[LatentLike],
        *,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Result]:
        """Make one picture from each latent.

        Args:
            latents: one or many; an integer stands for ``seed(integer)``.
            timeout: deadline in seconds; None means the client's.
            **options: see ``GenerateOptions``.

        Returns:
            The pictures in the order of the latents.
        """
        request = requests.generate_request(latents, **options)
        response = self._call(self._stylegan.Generate, request, timeout)
        return results.read_generate(response, request)

    @forwards_to(CallWindow)
    def generate_many(
        self, latents: Iterable[LatentLike], *, timeout: float | None = None, **options: Unpack[ManyOptions]
    ) -> Iterator[Result]:
        """Make one picture from each of any number of latents, with several calls in flight; they arrive in order.

        A call that is lost with its connection, or refused by a full server, is retried; pictures that were delivered
        are not made again. Memory and work ahead are bounded by ``window`` and ``batch``: the latents may be endless.

        Args:
            latents: any iterable; an integer stands for ``seed(integer)``.
            timeout: deadline of each call in seconds; None means the client's.
            **options: see ``ManyOptions``.

        Returns:
            The pictures in the order of the latents. Closing the iterator, as leaving a ``for`` loop does, cancels the
            calls in flight.
        """
        deadline = timeout
        window = CallWindow(
            lambda request: self._stylegan.Generate.future(request, timeout=deadline), latents, **options
        )
        return stream_results(window, self.address)

    @forwards_to(requests.invert_request)
    def invert(
        self, picture: PhotoLike, *, timeout: float | None = None, **options: Unpack[InvertOptions]
    ) -> Inversion:
        """Find the code of a picture.

        Args:
            picture: a path, the bytes of a PNG, JPEG or WebP file, or a Pillow image.
            timeout: deadline in seconds; None means the client's.
            **options: see ``InvertOptions``.
        """
        request = requests.invert_request(picture, **options)
        response = self._call(self._stylegan.Invert, request, timeout)
        return results.read_invert(response)

    @forwards_to(requests.project_request)
    def project(
        self,
        picture: PhotoLike,
        *,
        on_progress: Callable[[ProjectionProgress], None] | None = None,
        timeout: float | None = None,
        **options: Unpack[ProjectOptions],
    ) -> Projection:
        """Find the code of a picture by optimization: slower than ``invert``, and closer. The server needs PyTorch.

        Args:
            picture: as for ``invert``.
            on_progress: called after every step; an exception that it raises ends the call.
            timeout: deadline in seconds; None means the client's.
            **options: see ``ProjectOptions``.
        """
        request, reader = requests.project_request(picture, **options), ProjectionReader(on_progress)
        stream = self._stream(self._stylegan.Project, request, timeout, unread)
        with contextlib.closing(stream):
            for response in stream:
                reader.read(response)
        return reader.result()

    @forwards_to(requests.mix_request)
    def mix_styles(
        self, content: LatentLike, styles: Styles, *, timeout: float | None = None, **options: Unpack[MixOptions]
    ) -> Result:
        """Replace layers of one latent's code by those of others, and make the picture.

        Args:
            content: keeps the layers that no style replaces.
            styles: one or many of ``style(latent, layers, weight)``, applied in their order.
            timeout: deadline in seconds; None means the client's.
            **options: see ``MixOptions``.
        """
        chosen = requests.to_styles(styles, options.get("psi"))
        described = self._describe(options.get("model", "")) if requests.needs_model(chosen) else None
        request = requests.mix_request(content, chosen, described, **options)
        response = self._call(self._stylegan.MixStyles, request, timeout)
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
    ) -> Iterator[Frame]:
        """Interpolate between keyframes; frames arrive while the server makes the next ones.

        Args:
            keyframes: 2 or more latents.
            frame_count: frames in all.
            timeout: deadline of the whole call in seconds; None means the client's.
            **options: see ``InterpolateOptions``.

        Returns:
            The frames in order. Closing the iterator cancels the call.
        """
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
    ) -> Video:
        """Interpolate between keyframes in a video file, which arrives while the server makes the next frames.

        Args:
            keyframes: 2 or more latents.
            frame_count: frames in all.
            timeout: deadline of the whole call in seconds; None means the client's.
            **options: see ``VideoOptions``.

        Returns:
            The file: ``save`` it, or iterate over its pieces. Closing it cancels the call.
        """
        request = requests.video_request(keyframes, frame_count, **options)
        return Video(
            self._stream(self._stylegan.Interpolate, request, timeout, unread),
            options.get("container", "mp4"),
        )

    def models(self, *, timeout: float | None = None) -> list[pb.Model]:
        """List the server's models in the order of their names."""
        found: list[pb.Model] = []
        request = pb.ListModelsRequest()
        while True:
            response = self._call(self._models.ListModels, request, timeout)
            found.extend(response.models)
            if not response.next_page_token:
                return found
            request = pb.ListModelsRequest(page_token=response.next_page_token)

    def model(self, name: str = "", *, timeout: float | None = None) -> pb.Model:
        """Describe one model; an empty name means the server's default model."""
        return self._call(self._models.GetModel, pb.GetModelRequest(name=name), timeout).model

    def _describe(self, name: str) -> pb.Model:
        # A model of one name keeps its layers until it is replaced, which its digest shows: one GetModel is enough.
        if name not in self._described:
            self._described[name] = self.model(name)
        return self._described[name]
