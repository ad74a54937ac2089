"""How a client reaches a server: channel options, calls with their deadline, and grpc's errors turned into ours."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio

from stylewire import pb
from stylewire.client.retries import SERVICE_CONFIG, Attempts
from stylewire.errors import DeadlineError, StylewireError, UnreachableError
from stylewire.security import ChannelOptions, Security, is_local, open_async_channel, open_channel
from stylewire.status import from_rpc_error

DEFAULT_ADDRESS = "localhost:8500"
DEFAULT_TIMEOUT_SECONDS = 60.0

_MESSAGE_BYTES = 64 * 2**20
"""A raw float32 picture of 1024 px has 12.6 MB; gRPC's own limit is 4 MB."""
_HEALTH = {"healthCheckConfig": {"serviceName": pb.STYLEGAN_SERVICE}}
_SEVERAL_PREFIXES = ("dns:", "ipv4:", "ipv6:")

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Read = TypeVar("_Read")


def channel_options(address: str) -> ChannelOptions:
    """List the options of a channel to an address."""
    # Calls avoid servers that stop or hang. Not where there is one: its own error explains more than "unhealthy", and
    # gRPC prints an error when a proxy has no health service.
    health = _HEALTH if address.startswith(_SEVERAL_PREFIXES) else {}
    return (
        ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        ("grpc.service_config", json.dumps(SERVICE_CONFIG | health)),
        # gRPC keeps 256 KiB of a request to send it again; a photo is larger, and would fail in every rollout.
        ("grpc.per_rpc_retry_buffer_size", _MESSAGE_BYTES),
        # Each client has connections of its own: the processes of a server share connections, not calls.
        ("grpc.use_local_subchannel_pool", 1),
        # Names are resolved again when a connection ends; gRPC's 30 s are longer than a rollout of two servers takes.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.primary_user_agent", "stylewire-python"),
        # A proxy of the environment cannot reach a server of this machine.
        ("grpc.enable_http_proxy", int(not is_local(address))),
    )


class Connection:
    """A channel with a deadline: what every client for threads is.

    Args:
        address: ``host:port`` or any gRPC target, such as ``dns:///stylewire:8500``.
        timeout: deadline of a call in seconds, when the call has none of its own.
        security: TLS and token; None means neither.

    Raises:
        OSError: a file of TLS cannot be read.
        ValueError: the token would travel in the clear.
    """

    def __init__(
        self, address: str, *, timeout: float = DEFAULT_TIMEOUT_SECONDS, security: Security | None = None
    ) -> None:
        self.address = address
        self.timeout = timeout
        self._channel = open_channel(address, channel_options(address), security)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._channel.close()

    def _call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        timeout: float | None = None,
    ) -> _Response:
        """Call a method that returns one response; retry what gRPC itself does not."""
        attempts = Attempts(self._deadline(timeout))
        with typed_errors(self.address):
            while True:
                try:
                    return method(request, timeout=attempts.timeout)
                except grpc.RpcError as error:
                    time.sleep(attempts.pause(error))

    def _stream(
        self,
        method: "grpc.UnaryStreamMultiCallable[_Request, _Response]",
        request: _Request,
        timeout: float | None,
        read: Callable[[_Response], _Read],
    ) -> Generator[_Read]:
        """Call a method that streams; closing the generator cancels the call."""
        attempts, begun = Attempts(self._deadline(timeout), stream=True), False
        with typed_errors(self.address):
            while True:
                stream = method(request, timeout=attempts.timeout)
                try:
                    for response in stream:
                        begun = True
                        yield read(response)
                except grpc.RpcError as error:
                    if begun:
                        raise
                    time.sleep(attempts.pause(error))
                else:
                    return
                finally:
                    stream.cancel()

    def _deadline(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout


class AsyncConnection:
    """``Connection`` for asyncio; make it inside a running event loop."""

    def __init__(
        self, address: str, *, timeout: float = DEFAULT_TIMEOUT_SECONDS, security: Security | None = None
    ) -> None:
        self.address = address
        self.timeout = timeout
        self._channel = open_async_channel(address, channel_options(address), security)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        await self._channel.close()

    async def _call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        timeout: float | None = None,  # noqa: ASYNC109 - a deadline travels to the server, asyncio.timeout stays here
    ) -> _Response:
        """Call a method that returns one response; retry what gRPC itself does not."""
        attempts = Attempts(self._deadline(timeout))
        with typed_errors(self.address):
            while True:
                try:
                    return await method(request, timeout=attempts.timeout)
                except grpc.RpcError as error:
                    await asyncio.sleep(attempts.pause(error))

    async def _stream(
        self,
        method: "grpc.aio.UnaryStreamMultiCallable[_Request, _Response]",
        request: _Request,
        timeout: float | None,  # noqa: ASYNC109 - as above
        read: Callable[[_Response], _Read],
    ) -> AsyncGenerator[_Read]:
        """Call a method that streams; closing the generator cancels the call."""
        attempts, begun = Attempts(self._deadline(timeout), stream=True), False
        with typed_errors(self.address):
            while True:
                stream = method(request, timeout=attempts.timeout)
                try:
                    async for response in stream:
                        begun = True
                        yield read(response)
                except grpc.RpcError as error:
                    if begun:
                        raise
                    await asyncio.sleep(attempts.pause(error))
                else:
                    return
                finally:
                    stream.cancel()

    def _deadline(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout


@contextmanager
def typed_errors(address: str) -> Iterator[None]:
    """Raise what the server raised instead of grpc's error, for calls of both clients."""
    try:
        yield
    except grpc.RpcError as error:
        raise _typed(error, address) from error


def unread(message: _Response) -> _Response:
    """Return a message as it is: what ``read`` is for a stream that the caller reads."""
    return message


def _typed(error: grpc.RpcError, address: str) -> StylewireError:
    typed = from_rpc_error(error)
    if isinstance(typed, UnreachableError):
        cause = typed.message.rpartition(": ")[2]  # grpc chains its own layers before it; __cause__ keeps them
        return UnreachableError(f"no server answers at {address}: {cause}")
    if isinstance(typed, DeadlineError) and typed.message == "Deadline Exceeded":  # grpc's message, not the server's
        return DeadlineError(f"no answer from {address} in time; pass a longer timeout")
    return typed
