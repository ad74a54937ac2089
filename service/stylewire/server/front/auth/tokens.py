"""Who may call: bearer tokens of a file, which is read again when it changes."""

import hashlib
import hmac
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from stylewire.errors import UnauthenticatedError
from stylewire.server.config.settings import SettingError

log = logging.getLogger(__name__)

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HASHED = re.compile(r"sha256:([0-9a-f]{64})")
_LEAST_LENGTH = 16
"""Shorter tokens can be guessed; 16 random letters cannot."""
_FILE_BYTES = 1 << 20


class Tokens:
    """The tokens of a file: ``NAME TOKEN`` or ``NAME sha256:HEX`` a line, ``#`` for comments.

    A name may have several lines, so that a token can be replaced without a gap.

    Args:
        path: of the file.

    Raises:
        SettingError: the file cannot be read, or a line is wrong; tokens are not in the message.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = _state(path)
        self._clients = _read(path)

    def refresh(self) -> None:
        """Read the file again if it has changed; one that is wrong changes nothing."""
        state = _state(self._path)
        if state == self._state:
            return
        self._state = state
        try:
            self._clients = _read(self._path)
        except SettingError as err:
            log.error("the tokens of before still hold: %s", err)  # noqa: TRY400 - a person's mistake, no traceback
            return
        log.info("read %d tokens from %s", len(self._clients), self._path)

    def client(self, metadata: Metadata) -> str:
        """Return the name of the client whose token a call carries.

        Raises:
            UnauthenticatedError: it carries none, or one that nobody has.
        """
        given = next((value for key, value in metadata if key == "authorization"), None)
        if given is None:
            raise UnauthenticatedError("send the metadata 'authorization: Bearer TOKEN'")
        scheme, _, token = given.partition(" ") if isinstance(given, str) else ("", "", "")
        if scheme.lower() != "bearer":
            raise UnauthenticatedError("the metadata 'authorization' must be 'Bearer TOKEN'")
        return self._find(hashlib.sha256(token.strip().encode()).digest())

    def _find(self, digest: bytes) -> str:
        found = ""
        for known, name in self._clients.items():  # all of them, so that the time reveals nothing
            if hmac.compare_digest(known, digest):
                found = name
        if not found:
            raise UnauthenticatedError("the token is not known; ask whoever runs the server for one")
        return found


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> Mapping[bytes, str]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_FILE_BYTES)
    except (OSError, UnicodeDecodeError) as err:
        raise SettingError(f"--tokens-file {path} cannot be read: {err}") from err
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    clients = dict(_parse(words, f"--tokens-file {path}, line {n}") for n, words in enumerate(lines, 1) if words)
    if not clients:
        raise SettingError(f"--tokens-file {path} has no tokens; write a line NAME TOKEN for each client")
    return clients


def _parse(words: list[str], place: str) -> tuple[bytes, str]:
    """Read one line: the token's digest, and the client's name."""
    if len(words) != 2 or not _NAME.fullmatch(words[0]):
        raise SettingError(f"{place}: expected NAME TOKEN, the name of letters, digits and . _ -")
    name, token = words
    if hashed := _HASHED.fullmatch(token):
        return bytes.fromhex(hashed[1]), name
    if len(token) < _LEAST_LENGTH:
        raise SettingError(f"{place}: the token of {name} is shorter than {_LEAST_LENGTH}; take openssl rand -hex 32")
    return hashlib.sha256(token.encode()).digest(), name
