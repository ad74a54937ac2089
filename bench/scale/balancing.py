"""Which replica a call goes to: what gRPC clients and Envoy do, with what they can know."""

import random
from collections.abc import Sequence
from typing import Protocol

from scale.replica import Replica


class Balancer(Protocol):
    """Chooses a replica for every call and hears when it is over."""

    def choose(self, client: int) -> int | None:
        """Return the number of a replica that is up; None if there is none."""
        ...

    def changed(self) -> None:
        """Note that a replica came or went."""
        ...

    def sent(self, client: int, replica: int) -> None:
        """Note that a call is in flight."""
        ...

    def done(self, client: int, replica: int) -> None:
        """Note that it is over."""
        ...


class _Blind:
    """Knows who is up and nothing else, as a client that has a connection to it."""

    def __init__(self, replicas: Sequence[Replica], chance: random.Random) -> None:
        self._replicas, self._chance = replicas, chance
        self._ups = list(range(len(replicas)))

    def changed(self) -> None:
        """List anew who is up."""
        self._ups = [number for number, each in enumerate(self._replicas) if each.up]

    def sent(self, client: int, replica: int) -> None:
        """Forget it."""

    def done(self, client: int, replica: int) -> None:
        """Forget it."""


class PickFirst(_Blind):
    """One connection a client, to a replica by chance: gRPC without a policy behind a ClusterIP."""

    def __init__(self, replicas: Sequence[Replica], clients: int, chance: random.Random) -> None:
        super().__init__(replicas, chance)
        self._homes = [chance.randrange(len(replicas)) for _ in range(clients)]

    def choose(self, client: int) -> int | None:
        """Stay where it is while that is up."""
        if not self._replicas[self._homes[client]].up:
            if not self._ups:
                return None
            self._homes[client] = self._chance.choice(self._ups)
        return self._homes[client]


class RoundRobin(_Blind):
    """Every client has a connection to every replica and takes those that are up in turn; what the SDK does.

    As gRPC does it, a client begins anew at a random place whenever the list has changed.
    """

    def __init__(self, replicas: Sequence[Replica], clients: int, chance: random.Random) -> None:
        super().__init__(replicas, chance)
        self._next = [chance.randrange(len(replicas)) for _ in range(clients)]
        self._seen, self._changes = [0] * clients, 0

    def changed(self) -> None:
        """List anew who is up."""
        super().changed()
        self._changes += 1

    def choose(self, client: int) -> int | None:
        """Take the next."""
        count = len(self._ups)
        if not count:
            return None
        if self._seen[client] != self._changes:
            self._seen[client], self._next[client] = self._changes, self._chance.randrange(count)
        self._next[client] = (self._next[client] + 1) % count
        return self._ups[self._next[client]]


class LeastRequest(_Blind):
    """The less busy of two by chance, as a proxy sees it that its clients go through: Envoy's LEAST_REQUEST.

    Args:
        replicas: to choose from.
        chance: draws.
        proxies: each counts its own calls only; a client has the same one for all of its calls.
    """

    def __init__(self, replicas: Sequence[Replica], chance: random.Random, proxies: int = 1) -> None:
        super().__init__(replicas, chance)
        self._open = [[0] * len(replicas) for _ in range(proxies)]

    def choose(self, client: int) -> int | None:
        """Draw two of those that are up."""
        ups, counts = self._ups, self._open[client % len(self._open)]
        if not ups:
            return None
        first, second = (ups[int(self._chance.random() * len(ups))] for _ in range(2))
        return first if counts[first] <= counts[second] else second

    def sent(self, client: int, replica: int) -> None:
        """Count it."""
        self._open[client % len(self._open)][replica] += 1

    def done(self, client: int, replica: int) -> None:
        """Count it off."""
        self._open[client % len(self._open)][replica] -= 1
