"""Headers of compressed pictures, read before any pixel is decoded.

Reads format and size, and cuts away what a decoder of pixels does not need (EXIF, color profiles, text, thumbnails):
metadata is where decoders are fooled, and nothing here uses it.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class ImageError(ValueError):
    """A picture cannot be read or written; the message has what was found, the limit, and the fix."""


class ImageFormat(StrEnum):
    """A compressed picture format that is read and written."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def mime_type(self) -> str:
        """The media type, such as ``image/png``."""
        return f"image/{self}"


class Header(NamedTuple):
    """Format and size of a picture, and the bytes that are needed to decode its pixels."""

    image_format: ImageFormat
    width_px: int
    height_px: int
    essence: bytes


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
PART_LIMIT = 16384  # chunks or segments: libpng's 8 KiB chunks hold 128 MiB by then; empty parts only cost time
_JPEG_SCAN_LIMIT = 50  # about ten are usual; each of thousands of tiny scans costs a pass over all pixels
_JPEG_SCAN = 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF markers; the three are tables
_JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
_JPEG_DROPPED = (frozenset(range(0xE1, 0xF0)) - {0xEE}) | {0xFE}  # APPn and comments, but JFIF's and Adobe's color
_JPEG_MARKER_CODE = re.compile(rb"[^\xff]")  # the first byte behind one or more 0xff
_FOREIGN = ((b"GIF8", "GIF"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"%PDF", "PDF"))


def read_header(content: bytes) -> Header:
    """Read the header of a PNG, JPEG or WebP picture; its content decides which.

    Raises:
        ImageError: another format, a damaged or truncated header, an animation, or a kind of pixel that is not read.
    """
    if content.startswith(PNG_SIGNATURE):
        return _read_png(content)
    if content.startswith(b"\xff\xd8\xff"):
        return _read_jpeg(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _read_webp(content)
    raise ImageError(f"the content is {name_foreign(content)}; send PNG, JPEG or WebP")


def name_foreign(content: bytes) -> str:
    """Name the format of what is no PNG, JPEG or WebP, by its first bytes."""
    if not content:
        return "empty"
    if content[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    names = [f"a {name} file" for prefix, name in _FOREIGN if content.startswith(prefix)]
    return names[0] if names else f"not a picture of a known format (it starts with {content[:8].hex(' ')})"


def _read_png(content: bytes) -> Header:
    width_px = height_px = 0
    kept = [PNG_SIGNATURE]
    for kind, chunk in png_chunks(content):
        if kind == b"IHDR":
            width_px, height_px = int.from_bytes(chunk[8:12]), int.from_bytes(chunk[12:16])
            if chunk[16:18] == b"\x10\x00":
                raise ImageError("the PNG is grayscale with 16 bits; save it with 8 bits")
        if kind == b"acTL":
            raise ImageError("the PNG is animated; send a single picture")
        if kind in _PNG_CHUNKS:
            kept.append(chunk)
    return Header(ImageFormat.PNG, width_px, height_px, b"".join(kept))


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a PNG: (type, the whole chunk with length and checksum)."""
    position = len(PNG_SIGNATURE)
    for index in range(PART_LIMIT):
        end = position + 12 + int.from_bytes(content[position : position + 4])
        chunk = content[position:end]
        if len(chunk) < 12 or end > len(content):
            raise _truncated("PNG")
        if (chunk[4:8] == b"IHDR") != (index == 0):
            raise ImageError("the PNG is damaged: its header must come first and once; save it again")
        yield chunk[4:8], chunk
        if chunk[4:8] == b"IEND":
            return
        position = end
    raise ImageError(f"the PNG has more than {PART_LIMIT} chunks; save it again")


def _read_jpeg(content: bytes) -> Header:
    width_px = height_px = scan_count = 0
    kept = [b"\xff\xd8"]
    for marker, segment in jpeg_segments(content):
        if marker in _JPEG_FRAMES:
            precision_bits, channel_count = segment[4], segment[9]
            height_px, width_px = int.from_bytes(segment[5:7]), int.from_bytes(segment[7:9])
            if precision_bits != 8:
                raise ImageError(f"the JPEG has {precision_bits} bits a channel; save it with 8 bits")
            if channel_count == 4:
                raise ImageError("the JPEG has four channels (CMYK); save it as RGB")
        if marker == _JPEG_SCAN:
            scan_count = segment.count(b"\xff\xda")  # inside the compressed data 0xff is always escaped
        if marker not in _JPEG_DROPPED:
            kept.append(segment)
    if scan_count > _JPEG_SCAN_LIMIT:
        raise ImageError(f"the JPEG has {scan_count} scans, the limit is {_JPEG_SCAN_LIMIT}; save it as baseline")
    return Header(ImageFormat.JPEG, width_px, height_px, b"".join(kept))


def jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the segments of a JPEG: (marker, the whole segment); the last one is the first scan and all behind it.

    Nothing behind the end of the picture is yielded: phones append previews and videos there.
    """
    end = 2
    for _ in range(PART_LIMIT):
        fill = content.find(b"\xff", end)
        code = _JPEG_MARKER_CODE.search(content, fill) if fill >= 0 else None
        if code is None or code.start() + 3 > len(content):
            raise _truncated("JPEG")
        start, marker = code.start() - 1, content[code.start()]
        if marker == _JPEG_SCAN:
            scans, picture_end, _ = content[start:].partition(b"\xff\xd9")
            yield marker, scans + picture_end
            return
        end = start + 2 + (0 if marker in _JPEG_BARE else int.from_bytes(content[start + 2 : start + 4]))
        segment = content[start:end]
        if end > len(content) or (marker in _JPEG_FRAMES and len(segment) < 10):
            raise _truncated("JPEG")
        yield marker, segment
    raise ImageError(f"the JPEG has more than {PART_LIMIT} segments; save it again")


def _read_webp(content: bytes) -> Header:
    kind, body = content[12:16], content[20:30]
    if len(content) < 30 or len(content) < 8 + int.from_bytes(content[4:8], "little"):
        raise _truncated("WebP")
    if kind == b"VP8X":
        if body[0] & 0x02:
            raise ImageError("the WebP is animated; send a single picture")
        width_px, height_px = (1 + int.from_bytes(body[start : start + 3], "little") for start in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width_px, height_px = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width_px, height_px = (int.from_bytes(body[start : start + 2], "little") & 0x3FFF for start in (6, 8))
    else:
        raise ImageError(f"the WebP is damaged: its first chunk is {kind!r}; save it again")
    return Header(ImageFormat.WEBP, width_px, height_px, content)


def _truncated(name: str) -> ImageError:
    return ImageError(f"the {name} ends too early; send the whole file")
