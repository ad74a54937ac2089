"""The file that ``interpolate_video`` returns as it arrives, for threads and for asyncio."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Self

from stylewire import pb
from stylewire.client.options import Container
from stylewire.files import replacing


class _Progress:
    """What the responses of a call have in common, for both clients.

    Attributes:
        mime_type: media type of the file with its codec; empty until the first piece is there.
        frames_made: how many frames the server has made; the file is a second or so behind.
        model_digest: the same digest means the same pictures; empty until the first piece is there.
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
        model_digest: the same digest means the same pictures; empty until the first piece is there.
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
        model_digest: the same digest means the same pictures; empty until the first piece is there.
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
