"""Clients that break off, each at another point of what HTTP/2 and gRPC say a client does."""

import contextlib
import socket
import struct

from stylewire import pb
from stylewire.client.requests import generate_request
from support import http2_frames as frames

_PATH = f"/{pb.STYLEGAN_SERVICE}/Generate"
_BODY = frames.message(generate_request([1]).SerializeToString())
_SETTINGS = frames.frame(frames.SETTINGS, 0, 0, b"")
_HEAD = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, frames.head(_PATH, "test", {}))
_GREETING = frames.PREFACE + _SETTINGS
BEGINNINGS = {
    "nothing": b"",
    "half a preface": frames.PREFACE[:11],
    "a preface": frames.PREFACE,
    "settings": _GREETING,
    "half a head": _GREETING + _HEAD[:30],
    "a head": _GREETING + _HEAD,
    "half a message": _GREETING + _HEAD + frames.frame(frames.DATA, 0, 1, _BODY)[:-2],
    "a call whose answer nobody takes": _GREETING + _HEAD + frames.frame(frames.DATA, frames.END_STREAM, 1, _BODY),
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: test\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    "a frame of 16 MB": _GREETING + b"\xff\xff\xff" + bytes(100),
    "noise": bytes(range(256)),
}


def connect(address: str) -> socket.socket:
    """Open a connection to ``host:port``."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def break_off(address: str, beginning: bytes, *, rudely: bool) -> None:
    """Open a connection, begin, and leave; rudely: with a reset."""
    with connect(address) as connection, contextlib.suppress(ConnectionError):  # it may have been closed
        connection.sendall(beginning)
        if rudely:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def open_and_reset(address: str, count: int) -> None:
    """Begin calls on one connection and reset each at once (CVE-2023-44487)."""
    with connect(address) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(_GREETING)
        for stream in range(1, 2 * count, 2):
            head = frames.frame(frames.HEADERS, frames.END_HEADERS, stream, frames.head(_PATH, "test", {}))
            reset = frames.frame(frames.RST_STREAM, 0, stream, struct.pack(">I", 8))
            connection.sendall(head + frames.frame(frames.DATA, frames.END_STREAM, stream, _BODY) + reset)
