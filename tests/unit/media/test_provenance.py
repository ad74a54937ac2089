"""What files say about their origin: written for others to read, and read from others."""

import importlib.metadata
import json
import subprocess
import xml.etree.ElementTree as ET
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stylewire.media import codecs, provenance, xmp
from stylewire.media.codecs import ImageFormat
from stylewire.media.provenance import COMPOSITE, GENERATED, Packets, Provenance, combine, packet, read
from support.tools import needs_exiftool

DIGEST = "sha256:" + "5a" * 32
OURS = Provenance(
    source_type=GENERATED, model="avatars", model_digest=DIGEST, source="seed 7", software="stylewire 1.2"
)
PICTURE = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
FILE = codecs.encode(PICTURE, ImageFormat.PNG)
PHOTO = Provenance(source_type=provenance.SOURCE_TYPES + "digitalCapture")
ALL_FORMATS = pytest.mark.parametrize("image_format", ImageFormat)
TEXT = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from("<>&\"'{}]"), max_size=50).map(
    lambda text: " ".join(text.split())
)


def with_packet(text):
    return xmp.embed(FILE, text.encode() if isinstance(text, str) else text)


def foreign(inside, attributes=""):
    """A file as other software writes it."""
    return with_packet(
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Other">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:x2="http://ns.adobe.com/xap/1.0/"'
        f' {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>{" " * 2000}<?xpacket end="w"?>'
    )


@ALL_FORMATS
def test_what_is_written_is_read(image_format):
    """A file of every format gives back all that was put in."""
    assert OURS == read(xmp.embed(codecs.encode(PICTURE, image_format), packet(OURS)))


@given(TEXT, TEXT, TEXT)
def test_text_of_any_kind_is_kept(model, digest, source):
    """Markup, quotes and all scripts survive."""
    origin = Provenance(source_type=GENERATED, model=model, model_digest=digest, source=source, software="x")

    assert origin == read(with_packet(packet(origin)))


def test_packets_of_a_model_are_the_usual_ones():
    """The packet that is made once differs in nothing from one that is made anew, and names this version."""
    software = f"stylewire {importlib.metadata.version('stylewire')}"
    origin = Provenance(
        source_type=GENERATED, model="avatars", model_digest=DIGEST, source="seed 7, psi 0.7", software=software
    )
    made = Packets("avatars", DIGEST).packet("seed 7, psi 0.7")

    assert packet(origin) == made
    assert origin == read(with_packet(made))


def test_packet_has_the_standard_names():
    """An XML reader of Python's finds the properties under the names of IPTC and Adobe."""
    (description,) = ET.fromstring(packet(OURS))[0]

    assert {
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about": "",
        "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType": (
            "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
        ),
        "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}AISystemUsed": "avatars",
        "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}AISystemVersionUsed": DIGEST,
        "{http://ns.adobe.com/xap/1.0/}CreatorTool": "stylewire 1.2",
        "{urn:stylewire:provenance:1:}Source": "seed 7",
    } == description.attrib


@needs_exiftool
@ALL_FORMATS
def test_exiftool_reads_the_standard_properties(image_format, tmp_path):
    """The program that everybody uses prints what was written."""
    path = tmp_path / f"a.{image_format}"
    path.write_bytes(xmp.embed(codecs.encode(PICTURE, image_format), packet(OURS)))
    done = subprocess.run(["exiftool", "-j", "-G1", "-XMP:all", path], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)[0]

    assert (GENERATED, "avatars", DIGEST, "stylewire 1.2", "seed 7") == (
        found["XMP-iptcExt:DigitalSourceType"],
        found["XMP-iptcExt:AISystemUsed"],
        found["XMP-iptcExt:AISystemVersionUsed"],
        found["XMP-xmp:CreatorTool"],
        found["XMP-stylewire:Source"],
    )


def test_attributes_of_others_are_read():
    """The short form, with another prefix and padding."""
    content = foreign("", f'i:DigitalSourceType="{GENERATED}" x2:CreatorTool="Painter &amp; Co"')

    assert Provenance(source_type=GENERATED, software="Painter & Co") == read(content)


@pytest.mark.parametrize(
    "element",
    [
        f"<i:DigitalSourceType>{GENERATED}</i:DigitalSourceType>",
        f"<i:DigitalSourceType>\n {GENERATED}\n</i:DigitalSourceType>",
        f'<i:DigitalSourceType rdf:resource="{GENERATED}"/>',
        f"<i:DigitalSourceType><rdf:Alt><rdf:li>{GENERATED}</rdf:li></rdf:Alt></i:DigitalSourceType>",
    ],
)
def test_elements_of_others_are_read(element):
    """The long forms of a property."""
    assert Provenance(source_type=GENERATED) == read(foreign(element))


def test_properties_of_a_part_are_not_those_of_the_picture():
    """What an ingredient of a composite was says nothing about the whole."""
    part = f'<i:Other><rdf:Description i:DigitalSourceType="{GENERATED}"/></i:Other>'
    elements = f'<i:Other rdf:parseType="Resource"><i:DigitalSourceType>{GENERATED}</i:DigitalSourceType></i:Other>'

    assert read(foreign(part)) is None
    assert read(foreign(elements)) is None


@pytest.mark.parametrize(
    ("term", "synthetic"),
    [
        ("trainedAlgorithmicMedia", True),
        ("compositeWithTrainedAlgorithmicMedia", True),
        ("compositeSynthetic", True),
        ("algorithmicMedia", True),
        ("digitalCapture", False),
        ("algorithmicallyEnhanced", False),
        ("", False),
    ],
)
def test_synthetic_is_what_was_computed(term, synthetic):
    """Terms of IPTC's vocabulary are told apart."""
    assert synthetic is Provenance(source_type=provenance.SOURCE_TYPES + term).synthetic


def test_file_without_a_packet_says_nothing():
    """No metadata, and metadata about other things, are no provenance."""
    assert read(FILE) is None
    assert read(foreign("<i:Event>Party</i:Event>")) is None


def test_text_that_is_no_text_is_left_out():
    """Neither written nor read text holds what a terminal would obey or XML cannot hold."""
    written = read(with_packet(packet(Provenance(source_type=GENERATED, source="a\x1b[31m\0b\u202e", software="x"))))

    assert "a [31m b" == written.source
    assert read(foreign("", 'x2:CreatorTool="a&#x9b;31m"')).software.isprintable()


def test_text_is_cut_where_it_is_too_long():
    """A value is never longer than a page."""
    assert 1000 == len(read(foreign(f"<x2:CreatorTool>{'a' * 5000}</x2:CreatorTool>")).software)
    assert 1000 == len(read(foreign("", f'x2:CreatorTool="{"a" * 5000}"')).software)


def test_sheet_of_generated_pictures_is_generated():
    """What is said about several pictures names each model and source once."""
    other = Provenance(source_type=GENERATED, model="pixels", model_digest="sha256:1", source="seed 8")

    assert Provenance(
        source_type=GENERATED,
        model="avatars, pixels",
        model_digest=f"{DIGEST}, sha256:1",
        source="seed 7; seed 8",
    ) == combine([OURS, other, OURS])


@pytest.mark.parametrize("photo", [None, PHOTO])
def test_sheet_with_a_photo_is_a_composite(photo):
    """A generated picture beside one that is not, or does not say so, makes a composite."""
    found = combine([photo, OURS])

    assert (COMPOSITE, "avatars", "seed 7") == (found.source_type, found.model, found.source)


def test_sheet_of_photos_says_nothing():
    """Where nothing is synthetic, nothing is claimed."""
    assert combine([PHOTO, None]) is None
    assert combine([]) is None


def test_many_sources_are_counted():
    """A walk of a thousand frames does not list their digests."""
    frames = [Provenance(source_type=GENERATED, source=f"code xxh3:{index:032x}") for index in range(1000)]

    assert "1000 pictures" == combine(frames).source


def test_pillow_opens_what_was_marked():
    """Pillow reads size and packet without a warning."""
    with Image.open(BytesIO(with_packet(packet(OURS)))) as image:
        assert ((6, 8), packet(OURS)) == (image.size, image.info["xmp"])
