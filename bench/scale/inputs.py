"""What grows with the number of replicas: measured on a server of this machine, or assumed and marked so.

PYTHONPATH=bench python -m scale.inputs      # measures again, and prints the values for ``MEASURED``
"""

import json
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.process import Server, serving
from stylewire.client.connection import channel_options
from stylewire.demo import MODELS
from stylewire.server.host import resident_bytes

_CONNECTIONS = 300
_SERVICE = "stylewire.v1.StyleGanService"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Numbers that ``limits.py`` computes with.

    Attributes:
        series: of one replica's scrape, with one model.
        scrape_seconds: that one scrape takes.
        server_connection_bytes: of an idle connection, in the server.
        client_connection_bytes: the same in a Python client.
        watch_bytes: of a health Watch stream, in the server.
    """

    series: int
    scrape_seconds: float
    server_connection_bytes: float
    client_connection_bytes: float
    watch_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What was not measured here; say yours by ``--assume FILE``.

    Attributes:
        clients_per_replica: processes that call.
        scrape_interval_seconds: of Prometheus.
        prometheus_bytes_per_series: of its head block.
        image_bytes: of the container image.
        registry_bytes_per_second: 10 Gbit/s.
        store_bytes_per_second: of the one volume that all replicas read weights from.
        surge: replicas that a rolling restart starts at once; 1 in deploy/base.
        down_seconds_per_replica: of the autoscaler's way down; 1 in 120 s in deploy/components/autoscaling.
    """

    clients_per_replica: float = 5.0
    scrape_interval_seconds: float = 15.0
    prometheus_bytes_per_series: float = 4e3
    image_bytes: float = 500e6
    registry_bytes_per_second: float = 1.25e9
    store_bytes_per_second: float = 1e9
    surge: int = 1
    down_seconds_per_replica: float = 120.0

    @classmethod
    def read(cls, path: Path) -> "Assumptions":
        """Read some of them as JSON."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def measure(models: Path) -> Inputs:
    """Measure a server, with and without many connections."""
    with serving(models) as server:
        body, seconds = _scrape(server)
        counted = [line for line in body.splitlines() if line and not line.startswith("#")]
        return Inputs(series=len(counted), scrape_seconds=seconds, **_memory(server))


def _scrape(server: Server) -> tuple[str, float]:
    started = time.perf_counter()
    with urllib.request.urlopen(server.metrics_url, timeout=10) as reply:  # noqa: S310 - the server's own address
        body = reply.read().decode()
    return body, time.perf_counter() - started


def _memory(server: Server) -> dict[str, float]:
    """Memory of the server without connections, with many, and with a stream on each."""
    address = server.address
    options = [*channel_options(address), ("grpc.use_local_subchannel_pool", 1)]
    with ExitStack() as stack:
        open_one = lambda: stack.enter_context(grpc.insecure_channel(address, options=options))  # noqa: E731
        _connect([open_one() for _ in range(20)])  # what is made once
        before, own = server.resident_bytes(), resident_bytes()
        channels = [open_one() for _ in range(_CONNECTIONS)]
        _connect(channels)
        connected, own_connected = server.resident_bytes(), resident_bytes()
        asked = health_pb2.HealthCheckRequest(service=_SERVICE)
        for stream in [health_pb2_grpc.HealthStub(channel).Watch(asked) for channel in channels]:
            next(stream)
            stack.callback(stream.cancel)
        watched = server.resident_bytes()
    return {
        "server_connection_bytes": (connected - before) / _CONNECTIONS,
        "client_connection_bytes": (own_connected - own) / _CONNECTIONS,
        "watch_bytes": (watched - connected) / _CONNECTIONS,
    }


def _connect(channels: Sequence[grpc.Channel]) -> None:
    for channel in channels:
        grpc.channel_ready_future(channel).result(timeout=30)


if __name__ == "__main__":
    print(measure(MODELS / "avatars"))
