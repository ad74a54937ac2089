"""HTTP/2 by hand (RFC 9113), for clients that go faster, or do worse, than a library would."""

import struct
from collections.abc import Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 0x1
END_HEADERS = 0x4


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """Make a frame."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def head(path: str, authority: str, more: Mapping[str, str]) -> bytes:
    """Write a call's headers in HPACK, all as literals that nobody has to remember (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": authority,
        "te": "trailers",
        "content-type": "application/grpc",
        **more,
    }
    literals = (b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in fields.items())
    return b"".join(literals)


def message(body: bytes) -> bytes:
    """Put a gRPC message's own head before it: not compressed, length."""
    return b"\0" + struct.pack(">I", len(body)) + body
