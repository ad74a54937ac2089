"""XMP packets inside files: where PNG, JPEG, WebP, GIF, MP4 and WebM keep them; ``provenance.py`` has their content.

Files are cut and joined, never decoded, so pixels stay as they are.
Source: Adobe, XMP specification, part 3 (storage in files).
"""

import struct
import zlib
from pathlib import Path

from stylewire.media.image_headers import (
    PART_LIMIT,
    PNG_SIGNATURE,
    ImageError,
    jpeg_segments,
    name_foreign,
    png_chunks,
    read_header,
)
from stylewire.media.video_headers import EBML_MAGIC

MAX_PACKET_BYTES = 65502
"""What one segment of a JPEG holds; also the largest packet that is read: an editor's history may be longer."""

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif"})
_PNG_KEYWORD = b"XML:com.adobe.xmp" + bytes(5)  # not compressed, no language, no translation
_PNG_CHECKSUM = zlib.crc32(b"iTXt" + _PNG_KEYWORD)
_PNG_HEADER_END = 33  # signature and IHDR
_JPEG_APP0, _JPEG_APP1 = 0xE0, 0xE1
_JPEG_NAME = b"http://ns.adobe.com/xap/1.0/\0"
_WEBP_HAS_XMP, _WEBP_HAS_ALPHA = 0x04, 0x10
_GIF_START = b"!\xff\x0bXMP DataXMP"
_GIF_END = b"\x01" + bytes(range(255, -1, -1)) + b"\0"  # wherever readers of sub-blocks arrive, it leads them out
_MP4_KIND = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_PACKET_START, _PACKET_END = b"<?xpacket begin=", b'<?xpacket end="r"?>'
_WEBP_HEAD = struct.Struct("<4sI4s4sIIHxHx")  # of an extended file with sides up to 65536 px
_VP8_SIZE = struct.Struct("<HH")
_VP8L_ALPHA_BIT = 28


def embed(content: bytes, packet: bytes) -> bytes:
    """Return a file with a packet; it must have none yet.

    Raises:
        ImageError: the file is no PNG, JPEG, WebP or GIF, or the packet is too large.
    """
    if len(packet) > MAX_PACKET_BYTES:
        raise ImageError(f"the XMP packet has {len(packet)} bytes, the limit is {MAX_PACKET_BYTES}; shorten it")
    return _EMBEDDERS.get(content[:4], _refuse)(content, packet)


def embed_in_file(path: Path, packet: bytes) -> None:
    """Write a packet into a file on disk, by its suffix; formats that cannot carry one stay as they are."""
    if path.suffix.lower() in _SUFFIXES:
        path.write_bytes(embed(path.read_bytes(), packet))


def extract(content: bytes) -> bytes | None:
    """Find the packet of a file; None when it has none. Compressed packets, which the specification forbids, are none.

    Raises:
        ImageError: the file is no PNG, JPEG, WebP, GIF, MP4 or WebM, or ends before the packet was found.
    """
    if content.startswith(PNG_SIGNATURE):
        bodies = (chunk[8:-4] for kind, chunk in png_chunks(content) if kind == b"iTXt")
        return next((body[len(_PNG_KEYWORD) :] for body in bodies if body.startswith(_PNG_KEYWORD)), None)
    if content.startswith(b"\xff\xd8\xff"):
        bodies = (segment[4:] for marker, segment in jpeg_segments(content) if marker == _JPEG_APP1)
        return next((body[len(_JPEG_NAME) :] for body in bodies if body.startswith(_JPEG_NAME)), None)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _from_webp(content)
    if content[4:8] == b"ftyp":
        return _from_mp4(content)
    if content.startswith(EBML_MAGIC):  # Matroska has no place for XMP: a tag, found by the marks of the packet itself
        start, end = content.find(_PACKET_START), content.find(_PACKET_END)
        return content[start : end + len(_PACKET_END)] if 0 <= start < end else None
    if content.startswith(b"GIF8"):
        start, end = content.find(_GIF_START), content.rfind(_GIF_END)
        return content[start + len(_GIF_START) : end] if 0 <= start < end else None
    raise ImageError(f"the content is {name_foreign(content)}; PNG, JPEG, WebP, GIF, MP4 and WebM can be read")


def mp4_box(packet: bytes) -> bytes:
    """Make the box that holds the packet of an MP4, to be put between two others of the file."""
    return (8 + len(_MP4_KIND) + len(packet)).to_bytes(4) + b"uuid" + _MP4_KIND + packet


def _into_png(content: bytes, packet: bytes) -> bytes:
    size, checksum = len(_PNG_KEYWORD) + len(packet), zlib.crc32(packet, _PNG_CHECKSUM)
    view = memoryview(content)
    head, rest = view[:_PNG_HEADER_END], view[_PNG_HEADER_END:]
    return b"".join((head, size.to_bytes(4), b"iTXt", _PNG_KEYWORD, packet, checksum.to_bytes(4), rest))


def _into_jpeg(content: bytes, packet: bytes) -> bytes:
    # Behind JFIF's segment, which must be the first.
    start = 4 + (content[4] << 8) + content[5] if content[3] == _JPEG_APP0 else 2
    size, view = 2 + len(_JPEG_NAME) + len(packet), memoryview(content)
    return b"".join((view[:start], b"\xff\xe1", size.to_bytes(2), _JPEG_NAME, packet, view[start:]))


def _into_webp(content: bytes, packet: bytes) -> bytes:
    """Make an extended file of a simple one, and put the packet behind the picture."""
    body, flags = memoryview(content)[12 : 8 + int.from_bytes(content[4:8], "little")], _WEBP_HAS_XMP
    match content[8:16]:
        case b"WEBPVP8 ":
            width_px, height_px = _VP8_SIZE.unpack_from(content, 26)
            width_px, height_px = width_px & 0x3FFF, height_px & 0x3FFF  # beside them: how to scale
        case b"WEBPVP8L":
            _, width_px, height_px, _ = read_header(content)
            if int.from_bytes(content[21:25], "little") >> _VP8L_ALPHA_BIT & 1:
                flags |= _WEBP_HAS_ALPHA
        case b"WEBPVP8X":
            flags |= content[20]
            width_px, height_px = (1 + int.from_bytes(content[start : start + 3], "little") for start in (24, 27))
            body = body[18:]
        case _:
            return _refuse(content, packet)
    size = _WEBP_HEAD.size - 8 + len(body) + 8 + len(packet) + len(packet) % 2
    head = _WEBP_HEAD.pack(b"RIFF", size, b"WEBP", b"VP8X", 10, flags, width_px - 1, height_px - 1)
    return b"".join((head, body, b"XMP ", len(packet).to_bytes(4, "little"), packet, bytes(len(packet) % 2)))


def _into_gif(content: bytes, packet: bytes) -> bytes:
    return b"".join((b"GIF89a", content[6:].removesuffix(b";"), _GIF_START, packet, _GIF_END, b";"))


def _refuse(content: bytes, packet: bytes) -> bytes:  # noqa: ARG001 - stands for one that embeds
    raise ImageError(f"the content is {name_foreign(content)}; PNG, JPEG, WebP and GIF can carry XMP")


def _from_webp(content: bytes) -> bytes | None:
    position = 12
    for _ in range(PART_LIMIT):
        if position >= len(content):
            return None
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        if content[position : position + 4] == b"XMP ":
            return content[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
    raise ImageError(f"the WebP has more than {PART_LIMIT} chunks; save it again")


def _from_mp4(content: bytes) -> bytes | None:
    position = 0
    for _ in range(PART_LIMIT):
        if position + 8 > len(content):
            return None
        size, head = int.from_bytes(content[position : position + 4]), content[position + 8 : position + 24]
        if content[position + 4 : position + 8] == b"uuid" and head == _MP4_KIND:
            return content[position + 24 : position + size]
        if size == 1:  # its length follows in 64 bits
            size = int.from_bytes(head[:8])
        if size < 8:  # up to the end of the file
            return None
        position += size
    raise ImageError(f"the MP4 has more than {PART_LIMIT} boxes; its metadata is not read")


_EMBEDDERS = {
    PNG_SIGNATURE[:4]: _into_png,
    **{bytes((0xFF, 0xD8, 0xFF, marker)): _into_jpeg for marker in range(256)},
    b"RIFF": _into_webp,
    b"GIF8": _into_gif,
}
"""First four bytes -> what embeds; a table, since the smallest pictures are encoded in 40 microseconds."""
