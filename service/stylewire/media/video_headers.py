"""Format and size of MP4 and WebM files, read from their heads; nothing is decoded.

Sources: ISO/IEC 14496-12 (boxes) and RFC 8794, RFC 9559 (EBML, Matroska).
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple, TypeAlias

from stylewire.media.image_headers import ImageError

EBML_MAGIC = b"\x1aE\xdf\xa3"

_Part: TypeAlias = tuple[bytes, memoryview]
"""Type of a box or element, and its content."""
_PART_LIMIT = 1000  # the head has some dozens
_TRACK_HEADER = (b"moov", b"trak", b"tkhd")
_VIDEO = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0")  # Segment, Tracks, TrackEntry, Video
_PIXEL_WIDTH, _PIXEL_HEIGHT = b"\xb0", b"\xba"


class VideoHeader(NamedTuple):
    """Format and size of a video."""

    video_format: str
    width_px: int
    height_px: int


def is_video(content: bytes) -> bool:
    """Return whether the content is MP4 or WebM, by its first bytes."""
    return content[4:8] == b"ftyp" or content.startswith(EBML_MAGIC)


def read_video_header(content: bytes) -> VideoHeader:
    """Read format and size of an MP4 or WebM file.

    Raises:
        ImageError: the head is damaged or incomplete.
    """
    view = memoryview(content)
    if content.startswith(EBML_MAGIC):
        body = _inside(view, _VIDEO, _elements)
        sizes = {kind: int.from_bytes(value) for kind, value in islice(_elements(body), _PART_LIMIT)}
        found = VideoHeader("WEBM", sizes.get(_PIXEL_WIDTH, 0), sizes.get(_PIXEL_HEIGHT, 0))
    else:
        header = _inside(view, _TRACK_HEADER, _boxes)  # ends with width and height, 16.16 bits each
        found = VideoHeader("MP4", int.from_bytes(header[-8:-6]), int.from_bytes(header[-4:-2]))
    if not (found.width_px and found.height_px):
        raise ImageError("the video is damaged or truncated: it has no size")
    return found


def _inside(view: memoryview, path: tuple[bytes, ...], parts: Callable[[memoryview], Iterator[_Part]]) -> memoryview:
    for wanted in path:
        view = next((body for kind, body in islice(parts(view), _PART_LIMIT) if kind == wanted), memoryview(b""))
    return view


def _boxes(view: memoryview) -> Iterator[_Part]:
    while len(view) >= 8:
        size = int.from_bytes(view[:4])
        if size < 8:  # one of 64 bits or without an end: pictures and sound, which come after the head
            return
        yield bytes(view[4:8]), view[8:size]
        view = view[size:]


def _elements(view: memoryview) -> Iterator[_Part]:
    while len(view) >= 2 and view[0] and view[0] >> 4:
        id_length = 9 - view[0].bit_length()
        length = 9 - view[id_length].bit_length() if len(view) > id_length else 9
        if length > 8:
            return
        start = id_length + length
        size = int.from_bytes(view[id_length:start]) & ~(-1 << 7 * length)
        unknown = size == (1 << 7 * length) - 1  # a live stream's segment, which ends with the file
        stop = len(view) if unknown else start + size
        yield bytes(view[:id_length]), view[start:stop]
        view = view[stop:]
