"""Channels: in the clear or with TLS, with a client's certificate, with a token.

Imports grpc and nothing else that takes time: the health probe starts with it.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import grpc
import grpc.aio

ChannelOptions: TypeAlias = Sequence[tuple[str, str | int]]
TokenSource: TypeAlias = "str | os.PathLike[str] | Callable[[], str]"
"""The token itself, a file of it, or a function that returns it."""

_TOKEN = re.compile(r"[!-~]+")
_SCHEME = re.compile(r"(?:dns:(?://[^/]*/)?|ipv[46]:)")
_LOCAL_HOST = re.compile(r"localhost|127\.\d+\.\d+\.\d+|\[?::1\]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """TLS and token of a client.

    A connection has TLS if ``tls`` is set or one of ``ca``, ``certificate`` and ``server_name`` is set. Files are
    read when a client is made; a token that is a file or a function is read anew for each call.

    >>> Security(ca="ca.pem", token="secret")
    Security(ca='ca.pem', certificate=None, key=None, server_name='', tls=False)
    >>> Security(certificate="web.pem")
    Traceback (most recent call last):
    ValueError: certificate and key belong together; set both or neither

    Attributes:
        ca: PEM file of the authorities that may vouch for the server; None means those that gRPC ships.
        certificate: PEM file of a certificate that the server asks for (mutual TLS).
        key: PEM file of its private key.
        server_name: name in the server's certificate, if it is not that of the address.
        token: bearer token: text, a ``Path`` of a file, or a function. Only sent with TLS, or within this machine.
        tls: use TLS with the authorities that gRPC ships, where no other attribute implies TLS.
    """

    ca: "str | os.PathLike[str] | None" = None
    certificate: "str | os.PathLike[str] | None" = None
    key: "str | os.PathLike[str] | None" = None
    server_name: str = ""
    token: "TokenSource | None" = field(default=None, repr=False)
    tls: bool = False

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; set both or neither")

    @property
    def encrypts(self) -> bool:
        """Whether connections have TLS."""
        return bool(self.tls or self.ca or self.certificate or self.server_name)

    def read_token(self) -> str:
        """Read the token as it is now.

        Raises:
            OSError: its file cannot be read.
            ValueError: it is empty, or holds what a header cannot.
        """
        token = self.token
        if callable(token):
            text = token()
        else:
            text = Path(token).read_text(encoding="ascii").strip() if isinstance(token, os.PathLike) else token or ""
        if not _TOKEN.fullmatch(text):
            raise ValueError("the token is empty or has characters other than visible ASCII")
        return text


def is_local(address: str) -> bool:
    """Return whether a gRPC target is this machine, however names are resolved.

    >>> [is_local(each) for each in ("localhost:8500", "dns:///127.0.0.1:1", "unix:/a", "127.example:80", "faces:8500")]
    [True, True, True, False, False]
    """
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    hosts = [place.rpartition(":")[0] for place in _SCHEME.sub("", address, count=1).split(",")]
    return all(_LOCAL_HOST.fullmatch(host) for host in hosts)


def open_channel(address: str, options: ChannelOptions, security: Security | None = None) -> grpc.Channel:
    """Open a channel; nothing is connected before the first call.

    Raises:
        OSError: a file of TLS cannot be read.
        ValueError: the token would travel in the clear.
    """
    credentials = _credentials(address, security)
    if credentials is None:
        channel = grpc.insecure_channel(address, options)
    else:
        channel = grpc.secure_channel(address, credentials, [*options, *_name_option(security)])
    if security is None or security.token is None:
        return channel
    return grpc.intercept_channel(channel, _SyncBearer(security))


def open_async_channel(address: str, options: ChannelOptions, security: Security | None = None) -> grpc.aio.Channel:
    """Open a channel for asyncio, inside a running event loop; raises as ``open_channel``."""
    bearers: list[grpc.aio.ClientInterceptor] = []
    if security and security.token is not None:
        bearers = [_AsyncUnaryBearer(security), _AsyncStreamBearer(security)]
    credentials = _credentials(address, security)
    if credentials is None:
        return grpc.aio.insecure_channel(address, options, interceptors=bearers)
    every = [*options, *_name_option(security)]
    return grpc.aio.secure_channel(address, credentials, every, interceptors=bearers)


def _credentials(address: str, security: Security | None) -> grpc.ChannelCredentials | None:
    if security is None:
        return None
    if not security.encrypts:
        if security.token is not None and not is_local(address):
            raise ValueError(f"the token would travel readable to {address}; set ca=FILE, or tls=True")
        return None
    ca, key, certificate = (
        Path(each).read_bytes() if each else None for each in (security.ca, security.key, security.certificate)
    )
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _name_option(security: Security | None) -> list[tuple[str, str | int]]:
    return [("grpc.ssl_target_name_override", security.server_name)] if security and security.server_name else []


class _Details(NamedTuple):
    """A call's details with other metadata; grpc copies what has these names."""

    method: Any
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any = None


class _Bearer:
    """Adds the token to calls.

    By interceptors and not by grpc's call credentials: those start a thread for each call, and what goes wrong with a
    token would look like a server that does not answer.
    """

    def __init__(self, security: Security) -> None:
        self._security = security

    def _with_token(self, details: Any) -> Any:
        header = ("authorization", f"Bearer {self._security.read_token()}")
        return _Details(
            method=details.method,
            timeout=details.timeout,
            metadata=(*(details.metadata or ()), header),
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=getattr(details, "compression", None),
        )


class _SyncBearer(_Bearer, grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_token(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_token(client_call_details), request)


class _AsyncUnaryBearer(_Bearer, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._with_token(client_call_details), request)


class _AsyncStreamBearer(_Bearer, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._with_token(client_call_details), request)
