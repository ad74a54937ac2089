"""Load at a given rate, whatever becomes of the calls: gRPC over plain sockets, about 10 us of Python a call.

A gRPC client in Python takes longer for a call than the server takes to refuse it, so it would measure itself. This one
sends frames that are made once and reads only the frames' heads (RFC 9113): an answer with data is a picture, one
without is an error.
"""

import random
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from support import http2_frames as frames

_INITIAL_WINDOW_SIZE = 4
_WINDOW = 2**31 - 1
_GRACE_SECONDS = 2.0
"""How long answers are waited for after the last deadline."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was answered.

    Attributes:
        ok: whether with a picture.
        seconds: from the moment at which it was due until the end of the answer.
    """

    ok: bool
    seconds: float


def flood(  # noqa: PLR0913 - a load has this many parts
    port: int, path: str, body: bytes, *, rate: float, seconds: float, deadline_seconds: float, connections: int = 16
) -> list[Call | None]:
    """Send calls at random moments, ``rate`` a second on average; None stands for one without an answer.

    Raises:
        ConnectionError: the server closed a connection.
    """
    moments = random.Random(0)  # noqa: S311 - the same load every time
    headers = frames.head(path, f"127.0.0.1:{port}", {"grpc-timeout": f"{round(deadline_seconds * 1000)}m"})
    calls: list[Call | None] = []
    with selectors.DefaultSelector() as selector:
        open_ones = [_Connection(port, headers, body) for _ in range(connections)]
        for each in open_ones:
            selector.register(each.socket, selectors.EVENT_READ, each)
        started = due = time.perf_counter()
        until, sent, answered = started + seconds, 0, 0
        while due < until or (answered < sent and time.perf_counter() < until + deadline_seconds + _GRACE_SECONDS):
            now = time.perf_counter()
            while due <= now and due < until:
                calls.append(None)
                open_ones[sent % connections].send(sent, due)
                sent += 1
                due += moments.expovariate(rate)
            for each in open_ones:
                each.flush()
            wait = min(max(0.0, due - time.perf_counter()), 0.05) if due < until else 0.05
            for key, _ in selector.select(wait):
                for number, call in key.data.receive():
                    calls[number] = call
                    answered += 1
        for each in open_ones:
            each.socket.close()
    return calls


class _Connection:
    """One HTTP/2 connection, with as many calls at once as are sent."""

    def __init__(self, port: int, headers: bytes, body: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, _WINDOW)
        more = struct.pack(">I", _WINDOW - 65535)
        self._out = bytearray(frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0, settings))
        self._out += frames.frame(frames.WINDOW_UPDATE, 0, 0, more)
        self._in = bytearray()
        self._headers = headers
        self._message = frames.message(body)
        self._next_stream = 1
        self._waiting: dict[int, tuple[int, float]] = {}
        self._with_data = set[int]()

    def send(self, number: int, due: float) -> None:
        """Add a call to what ``flush`` sends."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._waiting[stream] = number, due
        self._out += frames.frame(frames.HEADERS, frames.END_HEADERS, stream, self._headers)
        self._out += frames.frame(frames.DATA, frames.END_STREAM, stream, self._message)

    def flush(self) -> None:
        """Send what is to be sent."""
        if self._out:
            self.socket.sendall(self._out)
            self._out.clear()

    def receive(self) -> Iterator[tuple[int, Call]]:
        """Read what came; return the calls that ended."""
        came = self.socket.recv(1 << 20)
        if not came:
            raise ConnectionError("the server closed a connection")
        self._in += came
        at = 0
        while len(self._in) - at >= 9:
            length, kind = int.from_bytes(self._in[at : at + 3], "big"), self._in[at + 3]
            if len(self._in) - at < 9 + length:
                break
            flags, stream = self._in[at + 4], int.from_bytes(self._in[at + 5 : at + 9], "big")
            content = bytes(self._in[at + 9 : at + 9 + length]) if kind == frames.PING else b""
            at += 9 + length
            if kind == frames.GOAWAY:
                raise ConnectionError("the server goes away")
            if kind in {frames.SETTINGS, frames.PING} and not flags & frames.ACK:
                self._out += frames.frame(kind, frames.ACK, 0, content)
            elif kind == frames.DATA:
                self._with_data.add(stream)
            elif kind == frames.HEADERS and flags & frames.END_STREAM and stream in self._waiting:
                number, due = self._waiting.pop(stream)
                yield number, Call(stream in self._with_data, time.perf_counter() - due)
                self._with_data.discard(stream)
        del self._in[:at]
