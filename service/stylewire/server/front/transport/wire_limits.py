"""Counts what a message would become, on its bytes: before protobuf makes objects of it.

A field of two bytes becomes an object of a hundred, so the size of a message bounds neither the time nor the memory
that parsing takes. Only tags and lengths are read here; what a field holds is skipped.

Source: protobuf's encoding, https://protobuf.dev/programming-guides/encoding/.
"""

from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from stylewire.errors import InvalidFieldError, Violation

_FIELDS, _FIELDS_OF_A_LATENT = 4_000, 100
"""A latent with a tensor, truncation and label has 25; the points of landmarks and all else have 500."""
_SMALL_BYTES = 4096
"""A message of so many bytes cannot hold enough to matter; most requests are smaller."""
_MAX_PACKED_BYTES = 1 << 16
"""Of a packed list of varints, such as a shape or seeds: a byte becomes eight."""
_LONG = 100
"""Elements of a list that may be what is wrong with a request of too many fields."""
_MAX_DEPTH = 16
"""Messages within messages: ours have five."""
_VARINT, _BYTES = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
"""Kind of a number of fixed size -> its bytes."""
_VARINT_BYTES = 10
_PACKED = frozenset(
    {
        FieldDescriptor.TYPE_BOOL,
        FieldDescriptor.TYPE_ENUM,
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_SINT32,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_UINT64,
    }
)


@dataclass(slots=True)
class _Shape:
    """What the fields of a message hold.

    Attributes:
        messages: number of a field -> what its messages hold.
        lists: those of them that are repeated.
        packed: numbers of the fields that are lists of varints.
        names: number of a field -> its name.
    """

    messages: "dict[int, _Shape]" = field(default_factory=dict)
    lists: set[int] = field(default_factory=set)
    packed: set[int] = field(default_factory=set)
    names: dict[int, str] = field(default_factory=dict)


class WireLimit:
    """Bounds the number of fields of messages of one type, at any depth.

    Args:
        descriptor: of the type.
        max_fields: of one message with all that it holds.
    """

    def __init__(self, descriptor: Descriptor, max_fields: int) -> None:
        self._shape = _shape(descriptor, {})
        self._max_fields = max_fields

    def check(self, content: bytes) -> None:
        """Refuse a message that would become too many objects, or that is no message at all.

        Raises:
            InvalidFieldError: it has too many fields, or its bytes end within one.
        """
        if len(content) > _SMALL_BYTES:
            walk = _Walk(content, self._max_fields)
            walk.message(self._shape, 0, len(content), depth=0, path="")


def max_fields(max_latents: int = 64) -> int:
    """Return how many fields a request may have with all that it holds: four times what is of use."""
    return _FIELDS + _FIELDS_OF_A_LATENT * max_latents


class _Walk:
    """One walk over the tags of a message; where there are too many, the longest list is what is wrong."""

    def __init__(self, content: bytes, max_fields: int) -> None:
        self._content, self._left, self._max_fields = content, max_fields, max_fields
        self._longest = 0, ""

    def message(self, shape: _Shape, start: int, stop: int, *, depth: int, path: str) -> None:
        """Walk over the fields of the message at ``start`` up to ``stop``."""
        if depth > _MAX_DEPTH:
            raise _refusal(path, f"has more than {_MAX_DEPTH} messages within each other")
        position, counts = start, dict.fromkeys(shape.lists, 0)
        while position < stop:
            self._left -= 1
            if self._left < 0:
                raise self._too_many(path)
            tag, position = self._varint(position, stop)
            number, kind = tag >> 3, tag & 7
            if kind == _BYTES:
                length, position = self._varint(position, stop)
                if position + length > stop:
                    raise _refusal(path, "ends within a field")
                if number in shape.messages or number in shape.packed:
                    name = self._name(shape, number, counts, path)
                    self._block(shape, number, position, position + length, depth=depth, path=name)
                position += length
            elif kind == _VARINT:
                _, position = self._varint(position, stop)
            elif kind in _FIXED_BYTES:
                position += _FIXED_BYTES[kind]
            else:  # a group, which no message of ours has
                raise _refusal(path, "has a group, which this protocol does not use")
        if position != stop:
            raise _refusal(path, "ends within a field")

    def _too_many(self, path: str) -> InvalidFieldError:
        length, name = self._longest
        if length > _LONG:
            return _refusal(name, f"is too long: a request may have {self._max_fields} fields; send fewer")
        return _refusal(path, f"has too many fields: a request may have {self._max_fields}")

    def _name(self, shape: _Shape, number: int, counts: dict[int, int], path: str) -> str:
        """Name a field, and count it if it is an element of a list."""
        name = f"{path}.{shape.names[number]}" if path else shape.names[number]
        if number not in counts:
            return name
        index, counts[number] = counts[number], counts[number] + 1
        self._longest = max(self._longest, (index, name))
        return f"{name}[{index}]"

    def _block(self, shape: _Shape, number: int, start: int, stop: int, *, depth: int, path: str) -> None:  # noqa: PLR0913
        """Look at a field that is a message or a packed list."""
        if number in shape.messages:
            self.message(shape.messages[number], start, stop, depth=depth + 1, path=path)
        elif stop - start > _MAX_PACKED_BYTES:
            raise _refusal(path, f"has {stop - start} bytes of numbers; {_MAX_PACKED_BYTES} are allowed")

    def _varint(self, position: int, stop: int) -> tuple[int, int]:
        content, value, shift = self._content, 0, 0
        for index in range(position, min(stop, position + _VARINT_BYTES)):
            byte = content[index]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, index + 1
            shift += 7
        raise _refusal("", "ends within a number, or has one of more than 10 bytes")


def _shape(descriptor: Descriptor, known: dict[str, _Shape]) -> _Shape:
    if descriptor.full_name in known:  # a message within one of its own kind
        return known[descriptor.full_name]
    shape = known[descriptor.full_name] = _Shape()
    for each in descriptor.fields:
        shape.names[each.number] = each.name
        if each.message_type is not None:
            shape.messages[each.number] = _shape(each.message_type, known)
            if _is_repeated(each):
                shape.lists.add(each.number)
        elif each.type in _PACKED and _is_repeated(each):
            shape.packed.add(each.number)
    return shape


def _is_repeated(descriptor: Any) -> bool:
    """Ask protobuf 6 and 7: the older one has a label, the newer one a property."""
    found = getattr(descriptor, "is_repeated", None)
    return bool(descriptor.label == FieldDescriptor.LABEL_REPEATED if found is None else found)


def _refusal(path: str, problem: str) -> InvalidFieldError:
    return InvalidFieldError.of([Violation(path, problem)])
