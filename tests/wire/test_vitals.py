"""What /metrics says of the server itself, against what health and the process say."""

import importlib.metadata
import os
import threading

import pytest

from stylewire import pb
from support.gates import held
from support.scrape import Scrape, wait_for
from support.servers import loading_server, running_server

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])


@pytest.fixture
def server(small_models):
    """A server for which a batch of half a second hangs."""
    with running_server(models=small_models / "plain", hang_seconds=0.5, max_queue_seconds=7) as server:
        yield server


def test_version_limits_and_process_are_shown(server):
    """The version, the limits and the process are those of this server."""
    scrape = Scrape(server.metrics_url)

    assert 1 == scrape.value("stylewire_build_info", version=importlib.metadata.version("stylewire"))
    assert 7 == scrape.value("stylewire_max_queue_seconds")
    assert 0 < scrape.value("process_resident_memory_bytes") < scrape.value("stylewire_memory_limit_bytes")
    assert scrape.value("process_cpu_seconds_total") <= sum(os.times()[:2])
    assert scrape.value("python_gc_collections_total", generation="2") > 0


def test_server_is_shown_as_ready_until_it_drains(server):
    """Ready is 1 while health says SERVING, and 0 from the moment in which it begins to stop."""
    before = Scrape(server.metrics_url)
    server.call(server.app.health.enter_graceful_shutdown())

    assert 1 == before.value("stylewire_ready")
    assert 0 == Scrape(server.metrics_url).value("stylewire_ready")


def test_server_is_not_shown_as_ready_while_models_load(small_models):
    """While models load, the metrics are there, and say that the server is not ready."""
    with loading_server(models=small_models / "plain") as server:
        loading = Scrape(server.metrics_url)
        server.go_on()
        wait_for(server.metrics_url, lambda s: s.value("stylewire_ready") == 1)

    assert 0 == loading.value("stylewire_ready")


def test_hung_graph_is_shown(server):
    """A graph whose batch does not end is shown as hung, the others are not, and the server is not ready meanwhile."""
    with server.channel() as channel, held(server, "synthesis") as gate:
        hangs = pb.StyleGanServiceStub(channel).Generate.future(ONE)
        gate.wait_for(batches=1)
        hung = wait_for(server.metrics_url, lambda s: s.value("stylewire_ready") == 0)
        gate.open()
        hangs.result(timeout=30)
        better = wait_for(server.metrics_url, lambda s: s.value("stylewire_ready") == 1)

    assert 1 == hung.value("stylewire_graph_hung", model="plain", graph="synthesis")
    assert 0 == hung.value("stylewire_graph_hung", model="plain", graph="mapping")
    assert 0 == better.value("stylewire_graph_hung", model="plain", graph="synthesis")


def test_lag_of_the_event_loop_is_measured(server):
    """A loop that is held up for half a second is seen to be late."""

    async def hold_up() -> None:
        threading.Event().wait(0.5)

    wait_for(server.metrics_url, lambda s: s.count("stylewire_event_loop_lag_seconds_count") > 0)
    server.call(hold_up())
    wait_for(server.metrics_url, lambda s: s.count("stylewire_event_loop_lag_seconds_sum") > 0.2)
