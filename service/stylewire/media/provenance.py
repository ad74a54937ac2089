"""The provenance in a picture file: that it is synthetic, by which model, from which seed or code.

Written and read as XMP with the properties of the IPTC Photo Metadata Standard 2025.1. Anybody can remove or forge it:
it is information, not proof.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from xml.parsers import expat

from stylewire.media import xmp
from stylewire.media.image_headers import ImageError

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""Vocabulary of IPTC: how a picture came to be."""
GENERATED = SOURCE_TYPES + "trainedAlgorithmicMedia"
"""Made by a model."""
COMPOSITE = SOURCE_TYPES + "compositeSynthetic"
"""Put together of pictures, some of which a model made."""

_SYNTHETIC = frozenset(
    SOURCE_TYPES + term
    for term in (
        "trainedAlgorithmicMedia",
        "compositeWithTrainedAlgorithmicMedia",
        "compositeSynthetic",
        "algorithmicMedia",
    )
)
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_OWN = "urn:stylewire:provenance:1:"
_DESCRIPTION = [f"{_RDF} RDF", f"{_RDF} Description"]
_FIELDS = {
    f"{_IPTC} DigitalSourceType": "source_type",
    f"{_IPTC} AISystemUsed": "model",
    f"{_IPTC} AISystemVersionUsed": "model_digest",
    f"{_XMP} CreatorTool": "software",
    f"{_OWN} Source": "source",
}
"""Property, as expat names it -> field of ``Provenance``."""
_VALUE_LENGTH = 1000  # characters; what is longer is cut
_DEPTH_LIMIT = 32
_TEMPLATE = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description rdf:about=""'
    f' xmlns:Iptc4xmpExt="{_IPTC}" xmlns:xmp="{_XMP}" xmlns:stylewire="{_OWN}"'
    ' Iptc4xmpExt:DigitalSourceType="{}" Iptc4xmpExt:AISystemUsed="{}" Iptc4xmpExt:AISystemVersionUsed="{}"'
    ' xmp:CreatorTool="{}" stylewire:Source="{}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The provenance in a file; text that it does not have is empty.

    Attributes:
        source_type: URI of the IPTC vocabulary, such as ``GENERATED``.
        model: name of the model, or whatever other software names as the system that made the picture.
        model_digest: the same digest, source and software mean the same picture.
        source: what the model made it of: ``seed 7, psi 0.7`` or ``code xxh3:...``, the digest of the w+ code as
            little-endian float32[L, D].
        software: what wrote the file.
    """

    source_type: str
    model: str = ""
    model_digest: str = ""
    source: str = ""
    software: str = ""

    @property
    def synthetic(self) -> bool:
        """Whether the file is marked as computed, in whole or in part, and not recorded."""
        return self.source_type in _SYNTHETIC


class Packets:
    """Makes the packets of one model. The text is made once: from picture to picture only the source changes."""

    def __init__(self, model: str, model_digest: str) -> None:
        mark = "\N{OBJECT REPLACEMENT CHARACTER}"
        text = packet(Provenance(source_type=GENERATED, model=model, model_digest=model_digest, source=mark))
        self._head, _, self._tail = text.partition(mark.encode())

    def packet(self, source: str) -> bytes:
        """Make the packet of one picture.

        Args:
            source: see ``Provenance``; plain words, no markup.
        """
        return b"".join((self._head, source.encode(), self._tail))


def packet(origin: Provenance) -> bytes:
    """Write an XMP packet; without a name of a software it names this one."""
    values = (origin.source_type, origin.model, origin.model_digest, origin.software or _software(), origin.source)
    return _TEMPLATE.format(*(_plain(value).translate(_ESCAPES) for value in values)).encode()


def read(content: bytes) -> Provenance | None:
    """Read the provenance in a file; None when it has none.

    Args:
        content: a PNG, JPEG, WebP, GIF, MP4 or WebM file, from whatever software.

    Raises:
        ImageError: the content is no such file, or its metadata is damaged, too long or has a document type.
    """
    found = xmp.extract(content)
    if found is None:
        return None
    if len(found) > xmp.MAX_PACKET_BYTES:
        raise ImageError(f"the XMP packet has {len(found)} bytes, the limit is {xmp.MAX_PACKET_BYTES}")
    fields = _parse(found)
    return Provenance(source_type=fields.pop("source_type", ""), **fields) if fields else None


def combine(origins: Sequence[Provenance | None]) -> Provenance | None:
    """Describe a file that shows several pictures; None when none of them is marked as synthetic."""
    synthetic = [origin for origin in origins if origin is not None and origin.synthetic]
    if not synthetic:
        return None
    pure = len(synthetic) == len(origins) and all(origin.source_type == GENERATED for origin in synthetic)
    source = _joined([origin.source for origin in synthetic], "; ")
    return Provenance(
        source_type=GENERATED if pure else COMPOSITE,
        model=_joined([origin.model for origin in synthetic], ", "),
        model_digest=_joined([origin.model_digest for origin in synthetic], ", "),
        source=source if len(source) <= _VALUE_LENGTH else f"{len(synthetic)} pictures",
    )


def _joined(texts: Sequence[str], separator: str) -> str:
    return separator.join(dict.fromkeys(text for text in texts if text))


def _plain(text: str) -> str:
    """Replace what is no text by spaces: XML cannot hold it, and terminals would obey it."""
    return "".join(character if character.isprintable() else " " for character in text[:_VALUE_LENGTH])


@cache
def _software() -> str:
    from importlib import metadata  # noqa: PLC0415 - the SDK's import is the faster for it

    try:
        return f"stylewire {metadata.version('stylewire')}"
    except metadata.PackageNotFoundError:
        return "stylewire"


def _parse(found: bytes) -> dict[str, str]:
    reader = _Reader()
    parser = expat.ParserCreate("utf-8", " ")
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(found.strip(b"\0 \t\r\n"), True)
    except expat.ExpatError as err:
        raise ImageError(f"the XMP packet is damaged: {err}") from err
    return {field: _plain(value.strip()) for field, value in reader.fields.items() if value.strip()}


class _Reader:
    """Collects the known properties of the packet's subject, as attributes or elements; those of its parts are not."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self._path: list[str] = []
        self._field: str | None = None

    def refuse_doctype(self, *_: object) -> None:
        raise ImageError("the XMP packet has a document type, which metadata never has; it is not read")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._path) == _DEPTH_LIMIT:
            raise ImageError(f"the XMP packet is nested deeper than {_DEPTH_LIMIT} elements; it is not read")
        field = _FIELDS.get(name)
        if self._path[-2:] == _DESCRIPTION and field and field not in self.fields:
            self._field, self.fields[field] = field, attributes.get(f"{_RDF} resource", "")
        self._path.append(name)
        if self._path[-2:] == _DESCRIPTION:
            for property_name in attributes.keys() & _FIELDS.keys():
                self.fields.setdefault(_FIELDS[property_name], attributes[property_name])

    def end(self, name: str) -> None:  # noqa: ARG002 - expat passes it
        self._path.pop()
        if self._path[-2:] == _DESCRIPTION:
            self._field = None

    def text(self, text: str) -> None:
        if self._field is not None and len(self.fields[self._field]) < _VALUE_LENGTH:
            self.fields[self._field] += text
