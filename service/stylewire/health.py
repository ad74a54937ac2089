"""The health probe: asks a server whether it serves, with the exit codes of ``grpc_health_probe``.

Runs every few seconds beside a busy server, so it imports grpc and nothing else that takes time: not even the health
protocol's package, whose two messages of one field are written and read here.
"""

import argparse
import os
import queue
import sys
import time
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import NoReturn

import grpc

from stylewire.security import Security, open_channel
from stylewire.terminal import printable

DEFAULT_ADDRESS = "localhost:8500"
READINESS = "stylewire.v1.StyleGanService"
_METHOD = "/grpc.health.v1.Health/Check"
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
"""``grpc.health.v1.HealthCheckResponse.ServingStatus`` by number."""
_TLS_OPTIONS = ("ca", "certificate", "key", "server_name")
_CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.primary_user_agent", "stylewire-health"))


class Exit(IntEnum):
    """Exit codes; the numbers are those of ``grpc_health_probe``."""

    SERVING = 0
    BAD_ARGUMENTS = 1
    NOT_CONNECTED = 2
    CALL_FAILED = 3
    NOT_SERVING = 4


class _ArgumentError(ValueError):
    """The command line is wrong."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check once, print the status, and return the exit code.

    Args:
        arguments: flags; those of the process when None.
    """
    try:
        options = _parser().parse_args(arguments)
        channel = _channel(options)
    except _ArgumentError as err:
        return _fail(Exit.BAD_ARGUMENTS, f"{err}; see stylewire health --help")
    with channel:
        return _ask(channel, options)


def request_bytes(service: str) -> bytes:
    """Encode a ``HealthCheckRequest``: field 1, the service's name."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def status_name(response: bytes) -> str:
    """Decode a ``HealthCheckResponse``: field 1, an enum; a missing field is 0."""
    number = response[1] if response[:1] == b"\x08" and len(response) == 2 else 0
    return _STATUSES[number] if number < len(_STATUSES) else f"{number}"


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _ask(channel: grpc.Channel, options: argparse.Namespace) -> Exit:
    connected = _connect(channel, options.timeout)
    if connected is None:
        return _fail(Exit.NOT_CONNECTED, f"no connection to {options.address} within {options.timeout:g} s")
    check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METHOD)
    try:
        response = check(request_bytes(options.service), timeout=options.timeout)
    except grpc.RpcError as error:  # without a connection this call fails at once and its error has the reason
        problem = f"{options.address}: {error.code().name}: {error.details()}"
        return _fail(Exit.CALL_FAILED if connected else Exit.NOT_CONNECTED, problem)
    status = status_name(response)
    print(f"status: {status}", flush=True)  # noqa: T201 - what grpc_health_probe prints
    return Exit.SERVING if status == "SERVING" else Exit.NOT_SERVING


def _connect(channel: grpc.Channel, timeout: float) -> bool | None:
    """Wait for a connection; False if it failed, None if nothing happened in time."""
    states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    channel.subscribe(states.put, try_to_connect=True)
    ends = {grpc.ChannelConnectivity.READY: True, grpc.ChannelConnectivity.TRANSIENT_FAILURE: False}
    deadline = time.monotonic() + timeout
    try:
        while (state := states.get(timeout=max(0.0, deadline - time.monotonic()))) not in ends:
            pass
    except queue.Empty:
        return None
    finally:
        channel.unsubscribe(states.put)
    return ends[state]


def _channel(options: argparse.Namespace) -> grpc.Channel:
    options_of_tls = {name: value for name in _TLS_OPTIONS if (value := getattr(options, name))}
    if options_of_tls and not options.tls:
        raise _ArgumentError(f"--{next(iter(options_of_tls)).replace('_', '-')} needs --tls")
    try:
        security = Security(tls=options.tls, **options_of_tls)
        return open_channel(options.address, _CHANNEL_OPTIONS, security)
    except ValueError as err:
        raise _ArgumentError(f"{err}") from err
    except OSError as err:
        raise _ArgumentError(f"{err.filename}: {err.strerror}") from err


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process with argparse's own code, which here means "not connected"."""

    def error(self, message: str) -> NoReturn:
        raise _ArgumentError(message)


def _parser() -> _Parser:
    parser = _Parser(
        prog="stylewire health",
        description="Ask a server for its health. Exit codes: 0 serving, 1 bad arguments, 2 no connection, 3 the call "
        "failed, 4 not serving.",
        allow_abbrev=False,
    )
    address = os.environ.get("STYLEWIRE_ADDRESS") or DEFAULT_ADDRESS
    parser.add_argument("--address", default=address, help="host:port of the server. [STYLEWIRE_ADDRESS, %(default)s]")
    parser.add_argument("--service", default=READINESS, help="Name asked about; empty: is it alive? [%(default)s]")
    parser.add_argument(
        "--timeout", type=_seconds, default=1.0, help="Seconds to connect, and to answer. [%(default)s]"
    )
    parser.add_argument("--tls", action="store_true", help="Use TLS.")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="PEM file of authorities. [those of gRPC]")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="PEM file shown to the server (mutual TLS).")
    parser.add_argument("--key", type=Path, metavar="FILE", help="PEM file of its private key.")
    parser.add_argument("--server-name", metavar="NAME", help="Name in the server's certificate, if not the address.")
    return parser


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time to wait; pass seconds above 0")
    return number


def _fail(code: Exit, problem: str) -> Exit:
    print(printable(problem), file=sys.stderr, flush=True)  # noqa: T201 - standard output is for the status
    return code


if __name__ == "__main__":
    sys.exit(main())
