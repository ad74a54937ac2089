"""How a client reaches a server: channel options, retries, and grpc's errors turned into ours."""

import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import grpc

from stylewire import pb
from stylewire.errors import DeadlineError, StylewireError, UnreachableError, from_rpc_error

DEFAULT_ADDRESS = "localhost:8500"
DEFAULT_TIMEOUT_SECONDS = 60.0
ChannelOptions: TypeAlias = Sequence[tuple[str, str | int]]

_MESSAGE_BYTES = 64 * 2**20
"""A raw float32 picture of 1024 px has 12.6 MB; gRPC's own limit is 4 MB."""
_ATTEMPTS = 4
_PAUSES_SECONDS = (0.2, 0.4, 0.8)
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [
                *({"service": pb.STYLEGAN_SERVICE, "method": name} for name in ("Generate", "Invert", "MixStyles")),
                {"service": pb.MODEL_SERVICE},
            ],
            "retryPolicy": {
                "maxAttempts": _ATTEMPTS,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
_LOCAL_PREFIXES = ("localhost:", "127.", "[::1]:", "unix:")


def channel_options(address: str) -> ChannelOptions:
    """List the options of a channel to an address."""
    return (
        ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.primary_user_agent", "stylewire-python"),
        # A proxy of the environment cannot reach a server of this machine.
        ("grpc.enable_http_proxy", int(not address.startswith(_LOCAL_PREFIXES))),
    )


class StreamAttempts:
    """When a stream that has given nothing is asked for again: as gRPC does it for calls of one answer.

    Not by gRPC: if a server dies when it has the request and no other is there, the end of the last attempt is lost and
    the reader of a stream waits for ever, deadline or not (grpcio 1.76, synchronous).

    Args:
        timeout: of all attempts together, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._until = time.monotonic() + timeout
        self._pauses = iter(_PAUSES_SECONDS)

    @property
    def timeout(self) -> float:
        """What is left for the next attempt."""
        return max(0.0, self._until - time.monotonic())

    def pause(self, error: grpc.RpcError) -> float:
        """Say how long to wait before the next attempt; raises the error if there is none."""
        pause = next(self._pauses, None)
        if pause is None or error.code() is not grpc.StatusCode.UNAVAILABLE or pause > self.timeout:
            raise error
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - so that clients do not come back all at once


@contextmanager
def typed_errors(address: str) -> Iterator[None]:
    """Raise what the server raised instead of grpc's error, for calls of both clients."""
    try:
        yield
    except grpc.RpcError as error:
        raise _typed(error, address) from error


def _typed(error: grpc.RpcError, address: str) -> StylewireError:
    typed = from_rpc_error(error)
    if isinstance(typed, UnreachableError):
        cause = typed.message.rpartition(": ")[2]  # grpc chains its own layers before it; __cause__ keeps them
        return UnreachableError(f"no server answers at {address}: {cause}")
    if isinstance(typed, DeadlineError) and typed.message == "Deadline Exceeded":  # grpc's own words, not the server's
        return DeadlineError(f"no answer from {address} in time; give the call a longer timeout")
    return typed
