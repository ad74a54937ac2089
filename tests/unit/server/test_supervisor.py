"""What several processes say, as one."""

import contextlib

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from stylewire.server.supervisor import MergedMetrics

ONE_FOR_ALL = [
    ("stylewire_ready", 1, 0, 0),  # not ready before all are
    ("process_start_time_seconds", 1000, 1005, 1000),
    ("stylewire_backlog_seconds", 0.5, 2, 2),
    ("stylewire_graph_hung", 0, 1, 1),  # one that hangs is a fault
    ("stylewire_max_queue_seconds", 10, 10, 10),
    ("stylewire_model_state", 1, 1, 1),
    ("stylewire_model_info", 1, 1, 1),
    ("stylewire_graph_info", 1, 1, 1),
    ("stylewire_build_info", 1, 1, 1),
    ("python_info", 1, 1, 1),
    ("stylewire_memory_limit_bytes", 8e9, 8e9, 8e9),
    ("stylewire_device_memory_used_bytes", 3e9, 3e9, 3e9),  # of one GPU, which both see
    ("stylewire_device_utilization_ratio", 0.2, 0.3, 0.3),
]
SUMS = [
    ("stylewire_waiting_rows", 2, 3, 5),
    ("stylewire_model_resident_bytes", 1e9, 1e9, 2e9),
    ("process_resident_memory_bytes", 2e9, 3e9, 5e9),
    ("process_open_fds", 10, 11, 21),
]


@contextlib.contextmanager
def merged(*registries):
    """The samples of several registries as one server shows them: name -> value."""
    with contextlib.ExitStack() as stack:
        urls = []
        for registry in registries:
            server, thread = start_http_server(0, "127.0.0.1", registry)
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            urls.append(f"http://127.0.0.1:{server.server_port}/metrics")
        families = list(MergedMetrics(urls).collect())
        yield {sample.name + sample.labels.get("le", ""): sample.value for f in families for sample in f.samples}


@pytest.mark.parametrize(("name", "one", "other", "both"), ONE_FOR_ALL + SUMS)
def test_gauges_of_two_processes_are_one(name, one, other, both):
    """What each process has is added up; what all share, or what the worst has, counts once."""
    registries = [CollectorRegistry(), CollectorRegistry()]
    for registry, value in zip(registries, (one, other), strict=True):
        Gauge(name, "Text.", registry=registry).set(value)
    with merged(*registries) as values:
        assert both == values[name]


def test_counters_and_histograms_are_added_up():
    """Calls, and how long they took, are those of all processes, bucket by bucket."""
    registries = [CollectorRegistry(), CollectorRegistry()]
    for registry, seconds in zip(registries, (0.5, 1.5), strict=True):
        Counter("calls_total", "Text.", registry=registry).inc(2)
        Histogram("call_seconds", "Text.", buckets=(1, 2), registry=registry).observe(seconds)
    with merged(*registries) as values:
        assert 4 == values["calls_total"]
        assert {"1.0": 1, "2.0": 2, "+Inf": 2} == {
            le: values[f"call_seconds_bucket{le}"] for le in ("1.0", "2.0", "+Inf")
        }
        assert (2, 2.0) == (values["call_seconds_count"], values["call_seconds_sum"])


def test_gauge_that_only_one_process_has_is_shown():
    """A model that only one of the processes has loaded yet is there."""
    registries = [CollectorRegistry(), CollectorRegistry()]
    Gauge("stylewire_model_info", "Text.", registry=registries[1]).set(1)
    with merged(*registries) as values:
        assert 1 == values["stylewire_model_info"]
