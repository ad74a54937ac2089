"""The frames of a walk -> the pieces of a video file, as they become ready."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np

from stylewire.errors import OverloadedError
from stylewire.server import tracing
from stylewire.server.front.pipeline import jobs, provenance
from stylewire.server.front.pipeline.results import Answer, Run
from stylewire.server.front.pipeline.video_encoder import VideoWriter

P = ParamSpec("P")
T = TypeVar("T")

PIECE_BYTES = 1 << 20
"""Clients other than ours take messages of 4 MB at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a video file.

    Attributes:
        content: the parts of all pieces, joined, are the file.
        mime_type: of the file.
        frame_index: of the latest frame that was made.
        run: of the frames since the piece before.
    """

    content: bytes
    mime_type: str
    frame_index: int
    run: Run


class Films:
    """Makes video files.

    Args:
        executor: threads that encode.
        max_videos: files that are made at once; an encoder takes megabytes.
        provenance: whether files say that they are synthetic.
    """

    def __init__(self, executor: Executor, max_videos: int, *, provenance: bool) -> None:
        self._executor, self._max_videos, self._provenance = executor, max_videos, provenance
        self._open_count = 0

    async def pieces(
        self, job: jobs.InterpolateJob, video: jobs.Video, frames: AsyncGenerator[Answer]
    ) -> AsyncGenerator[Piece]:
        """Make the file of a walk; no more frames are asked for than the pieces that were taken need.

        Args:
            job: the walk.
            video: its form.
            frames: its pictures, as pixels.

        Raises:
            OverloadedError: so many files are being made that one more could exhaust the memory.
            UnsupportedError: the encoder is missing.
        """
        if self._open_count >= self._max_videos:
            raise OverloadedError(f"{self._open_count} videos are being made; come back later", retry_after_seconds=1.0)
        self._open_count += 1
        packet = job.model.packets.packet(provenance.describe_walk(job)) if self._provenance else None
        writer = VideoWriter(video, job.frame_count, packet)
        try:
            index, run = 0, Run(None)
            async for index, answer in _numbered(frames):
                run.merge(answer.run)
                content = await self._timed(run, writer.add, np.asarray(answer.pictures[0].array, np.uint8))
                for piece in _cut(content):
                    yield Piece(content=piece, mime_type=writer.mime_type, frame_index=index, run=run)
                    run = Run(None, batch_size=run.batch_size)
            for piece in _cut(await self._timed(run, writer.finish)):
                yield Piece(content=piece, mime_type=writer.mime_type, frame_index=index, run=run)
                run = Run(None, batch_size=run.batch_size)
        finally:
            self._open_count -= 1
            await asyncio.shield(self._off_loop(writer.close))

    async def _timed(self, run: Run, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.monotonic()
        value = await self._off_loop(function, *args, **kwargs)
        ended = time.monotonic()
        run.encoding_seconds += ended - started
        tracing.phase("video", started, ended)
        return value

    async def _off_loop(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))


def _cut(content: bytes) -> list[bytes]:
    return [content[start : start + PIECE_BYTES] for start in range(0, len(content), PIECE_BYTES)]


async def _numbered(frames: AsyncGenerator[Answer]) -> AsyncGenerator[tuple[int, Answer]]:
    index = 0
    async for answer in frames:
        yield index, answer
        index += 1
