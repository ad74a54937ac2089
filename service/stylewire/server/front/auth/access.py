"""Who calls, and whether it may: tokens, client certificates, rates."""

from typing import Any, TypeAlias
from urllib.parse import unquote

import grpc
from grpc_health.v1 import health

from stylewire.server.config.settings import Settings
from stylewire.server.front.auth.rate_limits import RateLimits
from stylewire.server.front.auth.tokens import Metadata, Tokens

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

OPEN_SERVICES = frozenset({health.SERVICE_NAME})
"""Asked by probes and load balancers, which have no tokens and must hear when a server is full."""


class Access:
    """Accepts or refuses calls before their requests are parsed.

    Args:
        tokens: the known ones; None if nobody needs one.
        rate_limits: of all calls.
        certified: whether clients show certificates.
    """

    def __init__(self, tokens: Tokens | None, rate_limits: RateLimits, *, certified: bool) -> None:
        self._tokens, self._rate_limits, self._certified = tokens, rate_limits, certified

    @classmethod
    def of(cls, settings: Settings) -> "Access":
        """Make it from settings.

        Raises:
            SettingError: the file of tokens is wrong.
        """
        rate_limits = RateLimits(
            calls_per_second=settings.max_calls_per_second,
            calls_per_client=settings.max_calls_per_client,
            open_calls=settings.max_open_calls,
        )
        tokens = Tokens(settings.tokens_file) if settings.tokens_file else None
        return cls(tokens, rate_limits, certified=settings.tls_client_ca is not None)

    @classmethod
    def of_administrators(cls) -> "Access":
        """Make one that accepts whoever reaches the port: it is a socket of the own user, or of this machine alone."""
        return cls(None, RateLimits(calls_per_second=0, calls_per_client=0, open_calls=100), certified=False)

    def refresh(self) -> None:
        """Read the tokens again if their file has changed."""
        if self._tokens:
            self._tokens.refresh()

    def check(self, metadata: Metadata) -> None:
        """Raise where a call is refused by what is known before its request is read.

        Raises:
            UnauthenticatedError: it carries no token that is known.
            OverloadedError: too many calls are in flight.
        """
        self._rate_limits.check()
        if self._tokens:
            self._tokens.client(metadata)

    def enter(self, context: _Context) -> str:
        """Count a call that begins, and return the name of its client; ``leave`` ends it.

        Raises:
            UnauthenticatedError: as ``check``.
            OverloadedError: as ``check``, or, as RateLimitedError, this client calls too much.
        """
        client = self._client(context)
        self._rate_limits.enter(client)
        return client

    def leave(self, client: str) -> None:
        """Count a call that ended."""
        self._rate_limits.leave(client)

    def _client(self, context: _Context) -> str:
        """Return the name of the client: by its token, else by its certificate, else by its address."""
        if self._tokens:
            return self._tokens.client(context.invocation_metadata() or ())
        if self._certified:
            name = next(iter(context.auth_context().get("x509_common_name", ())), b"")
            return name.decode(errors="replace") or "certificate without a name"
        return address(context.peer()) if self._rate_limits.counts_clients else ""


def address(peer: str) -> str:
    """Cut the port off grpc's name of a peer, such as ``ipv4:10.0.0.7:40312`` or ``ipv6:%5B::1%5D:40312``."""
    kind, _, place = unquote(peer).partition(":")
    return place.rpartition(":")[0] if kind in ("ipv4", "ipv6") else kind
