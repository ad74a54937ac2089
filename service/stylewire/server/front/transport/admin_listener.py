"""Where administrators are served: a port or socket of their own, never that of the callers."""

import ipaddress
import os
import socket
import stat
from pathlib import Path

import grpc

from stylewire.server.config.settings import SettingError

_UNIX, _LAST_PORT = "unix:", 65535


def listen(server: grpc.aio.Server, address: str) -> str:
    """Let a server listen for administrators.

    Args:
        server: of the admin RPCs alone.
        address: ``host:port`` of this machine, or ``unix:/path`` for a socket that only the own user may use.

    Returns:
        The address, with the port that was taken.

    Raises:
        SettingError: it cannot be had.
    """
    host, _, port = address.rpartition(":")
    if address.startswith(_UNIX):
        _remove_stale(Path(address.removeprefix(_UNIX)))
    elif not (_is_here(host) and port.isdecimal() and int(port) <= _LAST_PORT):  # gRPC would take another one
        raise _not_to_be_had(address)
    mask = os.umask(0o177)  # of the socket: else others could connect before its mode is changed
    try:
        taken = server.add_insecure_port(address)
    except RuntimeError as err:
        raise _not_to_be_had(address) from err
    finally:
        os.umask(mask)
    return address if address.startswith(_UNIX) else f"{host}:{taken}"


def _is_here(host: str) -> bool:
    """Whether only this machine can reach an address: there are no tokens on it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _not_to_be_had(address: str) -> SettingError:
    expected = "expected unix:/path in a folder that is there, or a free port of this machine, 127.0.0.1:PORT"
    return SettingError(f"cannot listen on --admin-address {address}; {expected}")


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more; anything else at its place stays."""
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except OSError:  # nothing is there, or its folder is not
        return
    if not is_socket:
        raise SettingError(f"--admin-address unix:{path} is a file and no socket; choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as err:
            raise _not_to_be_had(f"{_UNIX}{path}") from err
    raise SettingError(f"another server listens on --admin-address unix:{path}; choose another path")
