"""TLS of the gRPC port: a certificate that may change while the server runs, and clients that must show theirs."""

import logging
import ssl
from pathlib import Path
from typing import NamedTuple

import grpc

from stylewire.server.config.settings import SettingError, Settings

log = logging.getLogger(__name__)


class _Files(NamedTuple):
    """Contents of the files that a handshake needs."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


class Certificates:
    """The files of ``--tls-certificate``, ``--tls-key`` and ``--tls-client-ca``, read again when they change.

    Args:
        settings: that name a certificate and a key.

    Raises:
        SettingError: a file cannot be read, or the key is not that of the certificate.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.tls_certificate
        assert settings.tls_key
        self._certificate, self._key = settings.tls_certificate, settings.tls_key
        self._client_ca = settings.tls_client_ca
        self._state = self._find_state()  # first: what changes while it is read is read again
        self._files = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a port; they read changed files at the next handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._fetch,  # type: ignore[arg-type]  # None is allowed, the stubs do not say so
            require_client_authentication=self._client_ca is not None,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what is new since the last handshake, None if nothing is. Called in threads of gRPC."""
        state = self._find_state()
        if state == self._state:
            return None
        self._state = state  # files that do not fit yet are looked at again when they change
        try:
            self._files = self._read()
        except SettingError as err:
            log.error("the certificate of before still holds: %s", err)  # noqa: TRY400 - half of a rotation, no bug
            return None
        log.info("new certificate from %s", self._certificate)
        return self._configuration()

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, client_ca = self._files
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=client_ca)

    def _paths(self) -> list[Path]:
        return [path for path in (self._certificate, self._key, self._client_ca) if path]

    def _find_state(self) -> list[tuple[int, int, int]]:
        try:
            return [(found.st_ino, found.st_mtime_ns, found.st_size) for found in map(Path.stat, self._paths())]
        except OSError:
            return []

    def _read(self) -> _Files:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
            if self._client_ca:
                context.load_verify_locations(self._client_ca)
            contents = [path.read_bytes() for path in self._paths()]
        except (OSError, ValueError) as err:  # SSLError is an OSError
            raise SettingError(f"TLS files {', '.join(map(str, self._paths()))}: {err}") from err
        return _Files(contents[0], contents[1], contents[2] if self._client_ca else None)


def _no_password() -> str:
    raise ValueError("the key has a password; store it without one, readable by the server only")
