"""Limits of calls: their rate and those in flight, for each client and in all."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from stylewire.errors import OverloadedError, RateLimitedError

MAX_CLIENTS = 10_000
"""Clients that are remembered; the one that called longest ago is forgotten first."""


@dataclass(slots=True)
class _Client:
    """What a client has left.

    Attributes:
        credit: calls that it may make now.
        counted: when that was computed.
        open_calls: in flight.
    """

    credit: float
    counted: float
    open_calls: int = 0


class RateLimits:
    """Counts the calls of each client. All methods belong to the event loop.

    Args:
        calls_per_second: of one client, 0 for no limit; a second's worth may come at once.
        calls_per_client: of one client in flight at once, 0 for no limit.
        open_calls: of all clients in flight at once.
        clock: returns monotonic seconds.
        max_clients: that are remembered.

    Attributes:
        open_calls: in flight now.
    """

    def __init__(
        self,
        *,
        calls_per_second: float,
        calls_per_client: int,
        open_calls: int,
        clock: Callable[[], float] = time.monotonic,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self._rate, self._most_of_one, self._most = calls_per_second, calls_per_client, open_calls
        self._clock, self._max_clients = clock, max_clients
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self.open_calls = 0

    @property
    def client_count(self) -> int:
        """Number of clients that are remembered."""
        return len(self._clients)

    @property
    def counts_clients(self) -> bool:
        """Whether it matters who calls."""
        return bool(self._rate or self._most_of_one)

    def check(self) -> None:
        """Raise where no client may begin a call now.

        Raises:
            OverloadedError: all clients together have too many calls in flight.
        """
        if self.open_calls >= self._most:
            raise OverloadedError(f"{self.open_calls} calls are in flight; retry later", retry_after_seconds=1.0)

    def enter(self, name: str) -> None:
        """Count a call that begins; each needs a ``leave``.

        Raises:
            OverloadedError: as ``check``.
            RateLimitedError: this client has too many calls in flight, or calls too often.
        """
        self.check()
        if self.counts_clients:
            self._charge(self._client(name))
        self.open_calls += 1

    def leave(self, name: str) -> None:
        """Count a call that ended."""
        self.open_calls -= 1
        client = self._clients.get(name)
        if client and client.open_calls:
            client.open_calls -= 1

    def _charge(self, client: _Client) -> None:
        if self._most_of_one and client.open_calls >= self._most_of_one:
            raise RateLimitedError(
                f"you have {client.open_calls} calls in flight, the limit of a client; wait for one to end",
                retry_after_seconds=1.0,
            )
        if self._rate:
            if client.credit < 1:
                wait = (1 - client.credit) / self._rate
                raise RateLimitedError(f"the limit of a client is {self._rate:g} calls/s", retry_after_seconds=wait)
            client.credit -= 1
        client.open_calls += 1

    def _client(self, name: str) -> _Client:
        """Find a client, with the credit that it has by now: a token bucket."""
        now, most = self._clock(), max(1.0, self._rate)
        client = self._clients.get(name)
        if client is None:
            self._forget()
            client = self._clients[name] = _Client(most, now)
        client.credit = min(most, client.credit + (now - client.counted) * self._rate)
        client.counted = now
        self._clients.move_to_end(name)
        return client

    def _forget(self) -> None:
        """Make room, by a client that has no calls in flight if one of the oldest has none."""
        if len(self._clients) < self._max_clients:
            return
        idle = (name for name, client in self._clients.items() if not client.open_calls)
        self._clients.pop(next(idle, next(iter(self._clients))))
