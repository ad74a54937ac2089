"""What breaks first as replicas are added: each quantity over the limit that it must keep."""

from collections.abc import Callable
from dataclasses import dataclass

from scale.day import Start
from scale.inputs import Assumptions, Inputs

MEASURED = Inputs(
    series=693,
    scrape_seconds=0.023,
    server_connection_bytes=13_100,
    client_connection_bytes=39_500,
    watch_bytes=24_500,
)
"""``python -m scale.inputs`` on two cores of an AMD EPYC; the series are those of a model with two graphs."""
_DNS_MESSAGE_BYTES, _DNS_HEAD_BYTES, _DNS_RECORD_BYTES = 65_535, 100, 16
"""RFC 1035: the length over TCP has 16 bits; an A record whose name is a pointer has 16 bytes."""
_PROMQL_SAMPLES = 50e6
"""Prometheus' --query.max-samples."""
_GRAPHS, _QUERY_SECONDS = 2, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Something that grows with the replicas.

    Attributes:
        name: what.
        unit: of value and most.
        value: replicas -> how much.
        most: from where on it is broken.
        cure: what to do then.
    """

    name: str
    unit: str
    value: Callable[[int], float]
    most: float
    cure: str

    def ratio(self, replicas: int) -> float:
        """Above 1 it is broken."""
        return self.value(replicas) / self.most

    @property
    def breaks_at(self) -> int:
        """The least number of replicas at which it is broken."""
        low, high = 1, 1
        while self.ratio(high) <= 1:
            low, high = high, high * 2
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.ratio(middle) > 1 else (middle + 1, high)
        return high


def limits(inputs: Inputs, assumed: Assumptions, start: Start) -> list[Limit]:
    """List them; ``start`` is of one replica that has its image."""
    clients = lambda replicas: assumed.clients_per_replica * replicas  # noqa: E731
    one = start.seconds(1)
    connection = inputs.server_connection_bytes + inputs.watch_bytes
    return [
        Limit(
            name=f"rolling restart, maxSurge {assumed.surge}",
            unit="h",
            value=lambda replicas: replicas / assumed.surge * one / 3600,
            most=1.0,
            cure="maxSurge in percent",
        ),
        Limit(
            name=f"from the peak down to a quarter, one in {assumed.down_seconds_per_replica:g} s",
            unit="h",
            value=lambda replicas: 0.75 * replicas * assumed.down_seconds_per_replica / 3600,
            most=6.0,
            cure="scaleDown in percent",
        ),
        Limit(
            name="doubling: weights from one volume",
            unit="s",
            value=lambda replicas: replicas * start.weights_bytes / assumed.store_bytes_per_second,
            most=60.0,
            cure="weights in an image that nodes keep",
        ),
        Limit(
            name="doubling: image from one registry, on fresh nodes",
            unit="s",
            value=lambda replicas: replicas * assumed.image_bytes / assumed.registry_bytes_per_second,
            most=60.0,
            cure="a mirror on the nodes, images there before",
        ),
        Limit(
            name="round_robin: connections and Watch streams in a server",
            unit="GiB",
            value=lambda replicas: clients(replicas) * connection / 2**30,
            most=1.0,
            cure="subsets, or a proxy",
        ),
        Limit(
            name="round_robin: connections in a Python client",
            unit="GiB",
            value=lambda replicas: replicas * inputs.client_connection_bytes / 2**30,
            most=0.25,
            cure="subsets, or a proxy",
        ),
        Limit(
            name="headless Service: addresses in one DNS answer",
            unit="bytes",
            value=lambda replicas: _DNS_HEAD_BYTES + _DNS_RECORD_BYTES * replicas,
            most=_DNS_MESSAGE_BYTES,
            cure="several Services, xDS, or a proxy",
        ),
        Limit(
            name="Prometheus: series of one server",
            unit="GB",
            value=lambda replicas: replicas * inputs.series * assumed.prometheus_bytes_per_series / 1e9,
            most=32.0,
            cure="shards by hash, or drop buckets",
        ),
        Limit(
            name="KEDA's query: samples",
            unit="samples",
            value=lambda replicas: replicas * _GRAPHS * _QUERY_SECONDS / assumed.scrape_interval_seconds,
            most=_PROMQL_SAMPLES,
            cure="a recording rule",
        ),
    ]
