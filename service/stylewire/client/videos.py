"""The request of ``interpolate_video``, and the file that it returns as it arrives, for threads and for asyncio."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Literal, Self, TypeAlias, TypedDict, Unpack, get_args

from stylewire import pb
from stylewire.client.inputs import LatentLike, NoiseMode, check_word
from stylewire.client.requests import Easing, Method, interpolate_request
from stylewire.files import replacing

Container: TypeAlias = Literal["mp4", "webm"]


class WalkOptions(TypedDict, total=False):
    """What a video shows, besides keyframes and the number of frames.

    Attributes:
        model: the model's name; the server's default model by default.
        psi: truncation of the latents that have none of their own; none by default.
        noise: ``const`` (the default), ``none``, ``random``, or what ``stylewire.noise`` returns.
        method: ``lerp`` in w+ (the default), ``slerp`` in z, or ``cubic``.
        easing: how time runs between keyframes; ``linear`` by default.
        looped: return to the first keyframe, so that the video can be repeated without a jump.
        resolution_px: width and height, even, at least 16 and at most the model's own, which is the default.
    """

    model: str
    psi: float | None
    noise: NoiseMode | pb.Noise
    method: Method
    easing: Easing
    looped: bool
    resolution_px: int | None


class VideoOptions(WalkOptions, total=False):
    """What ``Client.interpolate_video`` takes besides keyframes and their number.

    Attributes:
        container: ``mp4`` (H.264, the default) or ``webm`` (VP9).
        frame_rate: frames a second, in [1, 120]; 30 by default.
        quality: in [1, 100]; 75 by default.
        bits_per_second: on average, instead of ``quality``.
    """

    container: Container
    frame_rate: float | None
    quality: int | None
    bits_per_second: int | None


def video_request(  # noqa: PLR0913 - the request's fields, keyword-only
    keyframes: Iterable[LatentLike],
    frame_count: int,
    *,
    container: Container = "mp4",
    frame_rate: float | None = None,
    quality: int | None = None,
    bits_per_second: int | None = None,
    **walk: Unpack[WalkOptions],
) -> pb.InterpolateRequest:
    """Make the request of ``Client.interpolate_video``; see ``VideoOptions``."""
    check_word("container", container, get_args(Container))
    request = interpolate_request(keyframes, frame_count, **walk)
    request.output_config.ClearField("format")  # the container takes its place
    request.video.CopyFrom(
        pb.VideoConfig(
            container=pb.VideoConfig.Container.Value(f"CONTAINER_{container.upper()}"),
            frame_rate=frame_rate,
            quality=quality,
            bits_per_second=bits_per_second,
        )
    )
    return request


class _Progress:
    """What the messages of a call tell.

    Attributes:
        mime_type: media type of the file with its codec; empty until the first piece is there.
        frames_made: how many frames the server has made; the file is a second or so behind.
        model_digest: the same digest gives the same pictures; empty until the first piece is there.
    """

    def __init__(self, container: Container) -> None:
        self.mime_type, self.frames_made, self.model_digest = "", 0, ""
        self._container = container

    def _read(self, response: pb.InterpolateResponse) -> bytes:
        self.mime_type, self.model_digest = response.video_mime_type, response.model_digest
        self.frames_made = response.frame_index + 1
        return response.video_chunk

    def _target(self, path: "str | os.PathLike[str]") -> Path:
        target = Path(path)
        if target.suffix.lower() != f".{self._container}":
            raise ValueError(
                f"{target.name!r} does not end in .{self._container}; ask for another container or rename it"
            )
        return target


class Video(_Progress, Iterator[bytes]):
    """A video file that is read once: iterate over its pieces, or ``save`` it. Closing it cancels the call.

    Attributes:
        mime_type: media type of the file with its codec; empty until the first piece is there.
        frames_made: how many frames the server has made; the file is a second or so behind.
        model_digest: the same digest gives the same pictures; empty until the first piece is there.
    """

    def __init__(self, responses: Generator[pb.InterpolateResponse], container: Container) -> None:
        super().__init__(container)
        self._responses = responses

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return self._read(next(self._responses))

    def close(self) -> None:
        """Cancel what has not arrived; a file that is complete stays as it is."""
        self._responses.close()

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write the file while it arrives; it is whole or absent, whatever happens meanwhile.

        Raises:
            OSError: the file cannot be written.
            ValueError: the suffix is not the container's.
        """
        target = self._target(path)
        with closing(self), replacing(target) as draft, draft.open("wb") as file:
            file.writelines(self)
        return target


class AsyncVideo(_Progress, AsyncIterator[bytes]):
    """``Video`` for asyncio: ``async for piece in video``, or ``await video.save(path)``.

    Attributes:
        mime_type: media type of the file with its codec; empty until the first piece is there.
        frames_made: how many frames the server has made; the file is a second or so behind.
        model_digest: the same digest gives the same pictures; empty until the first piece is there.
    """

    def __init__(self, responses: AsyncGenerator[pb.InterpolateResponse], container: Container) -> None:
        super().__init__(container)
        self._responses = responses

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return self._read(await anext(self._responses))

    async def aclose(self) -> None:
        """Cancel what has not arrived; a file that is complete stays as it is."""
        await self._responses.aclose()

    async def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write the file while it arrives; see ``Video.save``."""
        target = self._target(path)
        async with aclosing(self):
            with replacing(target) as draft, draft.open("wb") as file:
                async for piece in self:
                    await asyncio.to_thread(file.write, piece)
        return target
