"""Metadata made to hurt: whatever the bytes are, reading ends soon, with an answer or a reason."""

import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stylewire.media import codecs, xmp
from stylewire.media.codecs import ImageError, ImageFormat
from stylewire.media.provenance import GENERATED, Provenance, packet, read
from support.pictures import saved

PICTURE = np.zeros((8, 8, 3), np.uint8)
PLAIN = [codecs.encode(PICTURE, image_format) for image_format in ImageFormat]
PLAIN += [saved(Image.fromarray(PICTURE), "GIF"), saved(Image.fromarray(PICTURE), "WEBP", lossless=True)]
ORIGIN = packet(Provenance(source_type=GENERATED, model="a", source="seed 7"))
MARKED = [xmp.embed(content, ORIGIN) for content in PLAIN]
STARTS = [content[:length] for content in MARKED for length in (3, 12, 20, 33, 60)]


def read_or_refuse(content):
    """Read; an ImageError is a fine answer, anything else is not."""
    try:
        found = read(content)
    except ImageError:
        return None
    assert found is None or all(len(text) <= 1000 for text in (found.source_type, found.model, found.source))
    return found


@given(st.sampled_from([b"", *STARTS]), st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(start, rest):
    """Noise, alone or behind the start of a real file."""
    read_or_refuse(start + rest)


@given(st.sampled_from(MARKED), st.data())
def test_any_damage_is_read_or_refused(content, data):
    """A file with some bytes changed and the end cut off."""
    damaged = bytearray(content)
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        damaged[position] = data.draw(st.integers(0, 255))

    read_or_refuse(bytes(damaged[: data.draw(st.integers(0, len(content)))]))


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_packet_is_read_or_refused(content):
    """A packet that is no XML."""
    read_or_refuse(xmp.embed(PLAIN[0], content))


@given(
    st.integers(0, len(ORIGIN)), st.sampled_from([b"<a>", b"</a>", b"<rdf:RDF>", b"&amp;", b"&lol;", b"\xff", b"\0"])
)
def test_any_markup_is_read_or_refused(position, markup):
    """A packet with markup where none belongs."""
    read_or_refuse(xmp.embed(PLAIN[0], ORIGIN[:position] + markup + ORIGIN[position:]))


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:9/"> %a;]>',
        "<!DOCTYPE x>",
    ],
)
def test_document_types_are_refused(doctype):
    """No entity is ever declared, so none is ever expanded or fetched."""
    for encoding in ("utf-8", "utf-16"):
        content = xmp.embed(PLAIN[0], (doctype + "<x>&b;</x>").encode(encoding))

        with pytest.raises(ImageError, match="XMP packet"):
            read(content)


def test_declared_encoding_does_nothing():
    """XMP is UTF-8; what a packet claims to be is not looked up."""
    read_or_refuse(xmp.embed(PLAIN[0], b"<?xml version='1.0' encoding='hz'?>" + ORIGIN))


@pytest.mark.parametrize("depth", [33, 3000])
def test_deep_nesting_is_refused(depth):
    """A thousand elements inside each other are not followed."""
    with pytest.raises(ImageError, match="nested deeper"):
        read(xmp.embed(PLAIN[0], b"<a>" * depth + b"</a>" * depth))


def test_long_packet_is_refused():
    """A packet beyond the limit is not parsed."""
    body = b"XML:com.adobe.xmp" + bytes(5) + b" " * (xmp.MAX_PACKET_BYTES + 1)
    chunk = len(body).to_bytes(4) + b"iTXt" + body + zlib.crc32(b"iTXt" + body).to_bytes(4)

    with pytest.raises(ImageError, match="the limit is 65502"):
        read(PLAIN[0][:33] + chunk + PLAIN[0][33:])


def test_compressed_text_is_not_inflated():
    """The one form of PNG text that could be a bomb is passed over."""
    body = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(10**8))
    chunk = len(body).to_bytes(4) + b"iTXt" + body + zlib.crc32(b"iTXt" + body).to_bytes(4)
    tracemalloc.start()
    found = read(PLAIN[0][:33] + chunk + PLAIN[0][33:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found is None
    assert peak < 10**6


@pytest.mark.parametrize(
    "content",
    [
        b"RIFF\xff\xff\xff\x7fWEBP" + b"junk\0\0\0\0" * 10**6,
        b"GIF89a" + b"!\xff\x0bXMP DataXMP" * 10**6,
        b"\xff\xd8\xff" + b"\xe1\0\2\xff" * 10**6,
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0IHDR\0\0\0\0" * 10**6,
    ],
    ids=["webp", "gif", "jpeg", "png"],
)
def test_many_parts_take_no_time(content):
    """A million parts in a file cost less than a second."""
    started = time.monotonic()

    assert read_or_refuse(content) is None
    assert time.monotonic() - started < 1
