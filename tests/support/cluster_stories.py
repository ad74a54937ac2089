"""What happens to a cluster under load, told by numbers: the tests assert them, ``make bench-cluster`` prints them."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from support.cluster import Cluster, Replica, running_cluster
from support.envoy import RunningEnvoy
from support.load import Load

ENVOY, SDK = "envoy", "sdk"
WAYS = (ENVOY, SDK)
"""How calls find a server: Envoy with ``deploy/envoy/envoy.yaml``, or the SDK itself by DNS and round_robin."""
CALLERS = 8


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What clients and servers saw.

    Attributes:
        way: how calls found a server.
        sent: calls of clients.
        answered: those that were answered in full.
        errors: what the others ended with.
        in_flight: calls without an answer when a server was killed; it had begun some of them.
        refused: calls that a server sent away, since it was stopping.
        retried: calls that Envoy sent once more; None where it was not there.
        doubled: pictures that were made, and are in no answer: one that was killed has made some that nobody got.
            Below 0 by those that it made in its last milliseconds, which it could not tell.
        longest_seconds: the slowest call.
    """

    way: str
    sent: int
    answered: int
    errors: tuple[Exception, ...]
    in_flight: int
    refused: int
    retried: int | None
    doubled: int
    longest_seconds: float


@contextlib.contextmanager
def reaching(cluster: Cluster, way: str) -> Iterator[tuple[str, Callable[[], int | None]]]:
    """Give the address for clients, and what counts the calls that were sent once more on the way."""
    if way == SDK:
        yield cluster.address, lambda: None
        return
    envoy = RunningEnvoy(cluster.names.port, cluster.port)
    try:
        yield envoy.address, lambda: envoy.count("upstream_rq_retry")
    finally:
        envoy.stop()


def rolling_restart(way: str, *, servers: int = 2, calls: int = 100) -> Outcome:
    """Replace all servers, one after the other, with so many calls before and after; every fourth call is a walk."""
    with running_cluster(servers) as cluster, reaching(cluster, way) as (address, retried):
        with Load(address, callers=CALLERS, walks=True) as load:
            load.wait_for(calls)
            cluster.roll()
            load.wait_for(calls)
        return _outcome(way, cluster, load, retried=retried())


def kill(way: str, *, servers: int = 2, calls: int = 100) -> Outcome:
    """Kill a server with so many calls before and after."""
    with running_cluster(servers) as cluster, reaching(cluster, way) as (address, retried):
        with Load(address, callers=CALLERS) as load:
            load.wait_for(calls)
            victim, before = cluster.replicas[0], load.in_flight
            victim.kill()
            in_flight = max(before, load.in_flight)
            load.wait_for(calls)
        cluster.remove(victim)
        return _outcome(way, cluster, load, in_flight=in_flight, retried=retried())


def slow_server(way: str, *, servers: int = 2, calls: int = 150) -> list[int]:
    """Throttle the first server; gives how many of so many calls each one answered."""
    with running_cluster(servers) as cluster, reaching(cluster, way) as (address, _):
        with Load(address, callers=CALLERS) as load:
            load.wait_for(2 * CALLERS)  # connections stand
            before = [each.rows() for each in cluster.replicas]
            with cluster.replicas[0].throttled():
                load.wait_for(calls)
        return [each.rows() - rows for each, rows in zip(cluster.replicas, before, strict=True)]


def scale_up(way: str, *, servers: int = 4) -> tuple[Outcome, list[int]]:
    """Start with one server and go to so many, with load until the newest has answered; gives what each answered."""
    # As in deploy/base, where it is 300 s: a client that balances asks for new servers when a connection ends.
    with (
        running_cluster(1, "--max-connection-age-seconds", "1") as cluster,
        reaching(cluster, way) as (address, retried),
    ):
        with Load(address, callers=CALLERS) as load:
            load.wait_for(CALLERS)
            cluster.scale_up(servers)
            while not all(each.rows() for each in cluster.replicas):
                load.wait_for(CALLERS)
        return _outcome(way, cluster, load, retried=retried()), [each.rows() for each in cluster.replicas]


def _outcome(way: str, cluster: Cluster, load: Load, *, retried: int | None, in_flight: int = 0) -> Outcome:
    made = sum(map(Replica.rows, cluster.replicas)) + sum(map(Replica.last_rows, cluster.ended))
    return Outcome(
        way=way,
        sent=load.sent,
        answered=load.answered,
        errors=tuple(load.errors),
        in_flight=in_flight,
        refused=sum(map(Replica.refused, (*cluster.replicas, *cluster.ended))),
        retried=retried,
        doubled=made - load.pictures,
        longest_seconds=load.longest_seconds,
    )
