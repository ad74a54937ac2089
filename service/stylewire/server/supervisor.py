"""Several processes on one port, for machines whose cores one Python process cannot feed: ``--workers N``.

The kernel spreads connections over the processes (SO_REUSEPORT); this parent starts them, passes signals on, and serves
the merged metrics of all under one address.
"""

import logging
import multiprocessing
import os
import re
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import cast

from prometheus_client import CollectorRegistry, Gauge, Metric, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from stylewire.server.config.settings import SettingError, Settings, metrics_port_taken, port_taken
from stylewire.server.telemetry.collectors import READY, READY_TEXT

log = logging.getLogger(__name__)

Ports = tuple[int, int]
"""Of gRPC and of /metrics."""
Work = Callable[[Settings, Callable[[Ports], None]], int]
"""Serves until a signal comes; calls back with its ports when it is ready, and returns the exit code."""
_SMALLEST = (READY, "process_start_time_seconds")
"""Gauges of which the smallest counts: all have to be ready."""
_LARGEST = re.compile(
    r".*_info|stylewire_(backlog_seconds|max_queue_seconds|graph_hung|model_state|memory_limit_bytes|device_.*)"
)
"""Gauges of which the largest counts: each process reports the same, or the worst is what matters."""


class Workers:
    """The processes.

    Args:
        settings: of the whole server.
        work: what each process does.
    """

    def __init__(self, settings: Settings, work: Work) -> None:
        self._settings, self._work = settings, work
        self._processes: list[SpawnProcess] = []
        self._stopping = False

    def run(self, ready: Callable[[Ports], None]) -> int:
        """Start all, wait until all have ended; return the exit code, 0 only if all ended well after a signal.

        Raises:
            SettingError: a port is taken, or a setting is for a single process only.
        """
        count = self._settings.workers
        if self._settings.admin_address:
            reason = (
                "an operation would reach one process only; let the processes follow the folder with --watch-seconds"
            )
            raise SettingError(f"--admin-address does not go with --workers {count}: {reason}")
        with _reserve(self._settings) as reserved:
            port = reserved.getsockname()[1]
            registry = CollectorRegistry()
            not_ready = Gauge(READY, READY_TEXT, registry=registry)
            metrics_port = _serve_metrics(self._settings, registry)
            threads = max(1, self._settings.threads // count)
            own = {"workers": 1, "port": port, "metrics_port": 0, "threads": threads}
            pipes = [self._start(self._settings.model_copy(update=own)) for _ in range(count)]
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
            if metrics_ports := self._wait_ready(pipes):
                registry.unregister(not_ready)
                registry.register(MergedMetrics(f"http://127.0.0.1:{each}/metrics" for each in metrics_ports))
                ready((port, metrics_port))
            return self._wait_end()

    def _start(self, settings: Settings) -> Connection:
        context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(self._work, settings, sender))
        process.start()
        sender.close()  # so that the receiver hears when the process has ended
        self._processes.append(process)
        return receiver

    def _wait_ready(self, pipes: list[Connection]) -> list[int]:
        """Wait until all are ready; return the ports of their metrics, none if one of them ended instead."""
        try:
            return [pipe.recv()[1] for pipe in pipes]
        except EOFError:
            return []

    def _wait_end(self) -> int:
        """Wait for all; return the exit code. One that ends by itself ends the others: the platform restarts."""
        left = {process.sentinel: process for process in self._processes}
        while left:
            for sentinel in wait(list(left)):
                process = left.pop(cast("int", sentinel))
                process.join()
                if not self._stopping:
                    log.error("worker %d ended with exit code %s; stopping the others", process.pid, process.exitcode)
                    self._signal_all(signal.SIGTERM)
        codes = [process.exitcode for process in self._processes]
        return 0 if self._stopping and not any(codes) else 1

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._stopping = True
        self._signal_all(signal.Signals(number))

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.is_alive() and process.pid:
                os.kill(process.pid, number)


class MergedMetrics(Collector):
    """The metrics of several processes as those of one.

    Args:
        urls: where they are.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        self._urls = list(urls)

    def collect(self) -> Iterable[Metric]:
        """Read the metrics of all processes, and merge them."""
        merged: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for url in self._urls:
            with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - of our own processes
                text = reply.read().decode()
            for family in text_string_to_metric_families(text):
                merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                known = values.setdefault(family.name, {})
                for sample in family.samples:
                    key = sample.name, tuple(sorted(sample.labels.items()))
                    known[key] = _merge(family.name, known[key], sample.value) if key in known else sample.value
        for name, metric in merged.items():
            metric.samples = [Sample(key, dict(labels), value) for (key, labels), value in values[name].items()]
        return merged.values()


def _merge(name: str, one: float, other: float) -> float:
    if name in _SMALLEST:
        return min(one, other)
    return max(one, other) if _LARGEST.fullmatch(name) else one + other


def _work(work: Work, settings: Settings, ready: Connection) -> None:
    os.setpgid(0, 0)  # a terminal's Ctrl-C goes to the parent, which passes it on, once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    raise SystemExit(work(settings, ready.send))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _reserve(settings: Settings) -> socket.socket:
    """Take the port, so that nobody else does; it is not listened on here."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = settings.host.strip("[]"), settings.port
    try:
        with socket.socket(family) as alone:  # without SO_REUSEPORT this fails where another server listens
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
        reserved = socket.socket(family)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(address)
    except OSError as err:
        raise port_taken(f"{settings.host}:{settings.port}") from err
    return reserved


def _serve_metrics(settings: Settings, registry: CollectorRegistry) -> int:
    try:
        server, _ = start_http_server(settings.metrics_port, settings.host, registry)
    except OSError as err:
        raise metrics_port_taken(settings.metrics_port, err) from err
    return server.server_port
