"""A name server on 127.0.0.1 that has the same addresses for every name, as a headless Service has for its own."""

import ipaddress
import socket
import struct
import threading

_HEADER_BYTES = 12
_A = 1
_ANSWER = 0x8400  # a response, and from whom it should come


class NameServer:
    """Answers until it is stopped.

    Attributes:
        port: of UDP.
        addresses: what it answers; may be replaced at any time.
    """

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._answer, name="name server")
        self._thread.start()

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _answer(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(_response(query, self.addresses), sender)


def _response(query: bytes, addresses: tuple[str, ...]) -> bytes:
    end = query.index(b"\0", _HEADER_BYTES) + 5  # the name, its last byte, kind and class
    kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
    found = addresses if kind == _A else ()  # none of IPv6, and no records of other kinds
    header = query[:2] + struct.pack("!5H", _ANSWER, 1, len(found), 0, 0)
    records = (
        struct.pack("!HHHIH", 0xC000 | _HEADER_BYTES, _A, 1, 0, 4) + ipaddress.IPv4Address(each).packed
        for each in found
    )
    return header + query[_HEADER_BYTES:end] + b"".join(records)
