"""Damage to bytes: what disks, networks and people do, and what protobuf's wire format allows and nobody sends."""

from collections.abc import Callable
from random import Random

_INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff" * 10)
_VARINT, _FIXED64, _BYTES, _START_GROUP, _END_GROUP, _FIXED32 = range(6)


def damage(content: bytes, random: Random, other: bytes = b"") -> bytes:
    """Damage bytes in one to four places; ``other`` lends parts."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 4)):
        start = random.randint(0, len(changed))
        match random.randrange(7):
            case 0 if start < len(changed):
                changed[start] ^= 1 << random.randrange(8)
            case 1:
                del changed[start : start + random.randint(1, 16)]
            case 2:
                changed[start:start] = random.randbytes(random.randint(1, 16))
            case 3:
                word = random.choice(_INTERESTING)
                changed[start : start + len(word)] = word
            case 4:
                del changed[start:]
            case 5:
                part = random.randint(0, len(other))
                changed[start:start] = other[part : part + random.randint(1, 200)]
            case _:
                changed[start:start] = changed[start : start + random.randint(1, 64)] * random.choice([1, 2, 50])
    return bytes(changed)


def varint(number: int, pad: int = 0) -> bytes:
    """Write a varint; padded, it is longer than it need be, or than it may be."""
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)] + [0] * pad
    return bytes([group | 0x80 for group in groups[:-1]]) + bytes(groups[-1:])


def _tag(number: int, kind: int) -> bytes:
    return varint(number << 3 | kind)


def _unknown_field(random: Random) -> bytes:
    number = random.choice([0, 15, 99, 19_000, 2**29 - 1, 2**29, 2**32])
    return random.choice(
        [
            _tag(number, _VARINT) + varint(random.getrandbits(64)),
            _tag(number, _BYTES) + varint(9) + random.randbytes(9),
            _tag(number, _FIXED64) + random.randbytes(8),
            _tag(number, _FIXED32) + random.randbytes(4),
            _tag(number, random.choice([6, 7])),
        ]
    )


def _groups(random: Random) -> bytes:
    depth = random.choice([1, 10, 99, 100, 101, 5000])
    end = depth if random.random() < 0.7 else random.randrange(depth)
    return _tag(50, _START_GROUP) * depth + _tag(50, _END_GROUP) * end


def _nested(random: Random) -> bytes:
    """Put a message into itself, as field 1 or 2 of each, deeper than any schema goes."""
    content = b""
    for _ in range(random.choice([3, 50, 120, 400])):
        content = _tag(random.choice([1, 2]), _BYTES) + varint(len(content)) + content
    return content


def _wrong_kind(random: Random) -> bytes:
    return _tag(random.randint(1, 9), random.randrange(6)) + random.randbytes(random.randint(0, 12))


def _lying_length(random: Random) -> bytes:
    length = random.choice([1, 100, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
    return _tag(random.randint(1, 9), _BYTES) + varint(length) + random.randbytes(random.randint(0, 40))


def _long_varint(random: Random) -> bytes:
    tag = varint(random.randint(1, 9) << 3, random.randint(0, 6))
    return tag + varint(random.getrandbits(32), random.randint(0, 9))


def _text(random: Random) -> bytes:
    """Write a string that is not UTF-8."""
    content = random.choice([b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"a\x80", b"\xf4\x90\x80\x80"])
    return _tag(1, _BYTES) + varint(len(content)) + content


_TRICKS: tuple[Callable[[Random], bytes], ...] = (
    _unknown_field, _groups, _nested, _wrong_kind, _lying_length, _long_varint, _text,
)  # fmt: skip


def trick(content: bytes, random: Random, other: bytes) -> bytes:
    """Add what the wire format can say and the schema cannot; ``other`` is a request of the same kind, merged in."""
    parts = [content, *(random.choice(_TRICKS)(random) for _ in range(random.randint(1, 3)))]
    if random.random() < 0.3:  # every field twice: the last of a oneof counts, lists grow
        parts.append(other)
    random.shuffle(parts)
    return b"".join(parts)
