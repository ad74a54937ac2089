"""The frames of an interpolation -> the pieces of a video file, as they become ready."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from stylewire.errors import OverloadedError
from stylewire.server.context import RequestContext, Timings, off_loop
from stylewire.server.front.pipeline import jobs, provenance
from stylewire.server.front.pipeline.results import ImagesResult
from stylewire.server.front.pipeline.video_encoder import VideoWriter

PIECE_BYTES = 1 << 20
"""Clients other than ours take messages of 4 MB at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a video file.

    Attributes:
        content: the parts of all pieces, joined, are the file.
        mime_type: of the file.
        frame_index: of the latest frame that was made.
        timings: of the frames since the piece before.
    """

    content: bytes
    mime_type: str
    frame_index: int
    timings: Timings


class VideoStreams:
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
        self, job: jobs.InterpolateJob, video: jobs.Video, frames: AsyncGenerator[ImagesResult], call: RequestContext
    ) -> AsyncGenerator[Piece]:
        """Make the file of an interpolation; no more frames are asked for than the pieces that were taken need.

        Args:
            job: the interpolation.
            video: its form.
            frames: its images, as pixels.
            call: for which.

        Raises:
            OverloadedError: so many files are being made that one more could exhaust the memory.
            UnsupportedError: the encoder is missing.
        """
        if self._open_count >= self._max_videos:
            raise OverloadedError(f"{self._open_count} videos are being made; come back later", retry_after_seconds=1.0)
        self._open_count += 1
        packet = job.model.packets.packet(provenance.describe_path(job)) if self._provenance else None
        writer, part, index = VideoWriter(video, job.frame_count, packet), call.part(), 0
        try:
            async for index, frame in _numbered(frames):
                part.timings.merge(frame.timings)
                pixels = np.asarray(frame.images[0].array, np.uint8)
                content = await part.timed("video", self._executor, writer.add, pixels)
                for each in _cut(content):
                    yield Piece(content=each, mime_type=writer.mime_type, frame_index=index, timings=part.timings)
                    part.timings = Timings(batch_size=part.timings.batch_size)
            for each in _cut(await part.timed("video", self._executor, writer.finish)):
                yield Piece(content=each, mime_type=writer.mime_type, frame_index=index, timings=part.timings)
                part.timings = Timings(batch_size=part.timings.batch_size)
        finally:
            self._open_count -= 1
            await asyncio.shield(off_loop(self._executor, writer.close))


def _cut(content: bytes) -> list[bytes]:
    return [content[start : start + PIECE_BYTES] for start in range(0, len(content), PIECE_BYTES)]


async def _numbered(frames: AsyncGenerator[ImagesResult]) -> AsyncGenerator[tuple[int, ImagesResult]]:
    index = 0
    async for frame in frames:
        yield index, frame
        index += 1
