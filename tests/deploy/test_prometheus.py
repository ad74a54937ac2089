"""A real Prometheus scrapes a server that works: every rule and every panel finds what it asks for."""

import asyncio
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stylewire import AsyncClient, Client, ModelNotFoundError, OverloadedError, pb
from stylewire.server.telemetry.gpu import GpuCollector
from support.gates import held
from support.nvml import FakeNvml
from support.pictures import avatar
from support.prometheus import MONITORING, RunningPrometheus, promtool
from support.rules import ALERTS, RECORDS, RULES, names, queries, selectors
from support.scrape import Scrape
from support.servers import running_server

QUERIES = queries()


@pytest.fixture(scope="module")
def server():
    """A server of the demo models, which says that it has a GPU."""
    with running_server(hang_seconds=3) as server:
        server.app.metrics.registry.register(GpuCollector.open("cuda", FakeNvml(), {}))
        yield server


@pytest.fixture(scope="module")
def prometheus(server, tmp_path_factory):
    """A Prometheus that has seen the server before and after every kind of call."""
    target = server.metrics_url.removeprefix("http://").removesuffix("/metrics")
    prometheus = RunningPrometheus(tmp_path_factory.mktemp("prometheus"), target, RULES)
    try:
        assert prometheus.wait_for('grpc_server_handled_total{grpc_method="Generate"}')
        work(server)
        assert prometheus.wait_for('grpc_server_handled_total{grpc_method="ListModels",grpc_code="OK"} > 1')
        assert prometheus.wait_for('job_method:grpc_server_handling_seconds:p99_rate5m{grpc_method="Invert"} > 0')
        yield prometheus
    finally:
        prometheus.stop()


def work(server) -> None:
    """Call every method, ask for a model that is not there, and be refused; ListModels is first and last."""
    with Client(server.address) as client:
        client.models()
        client.model()
        client.generate(range(3))
        client.mix_styles(1, 2)
        client.invert(avatar(), return_reconstruction=True)
        list(client.interpolate([1, 2], 5))
        with pytest.raises(ModelNotFoundError):
            client.generate(1, model="nobody")
        asyncio.run(be_refused(server))
        client.models()


async def be_refused(server) -> None:
    """Ask for a picture while others wait that take a thousand seconds, as far as the server knows."""
    async with AsyncClient(server.address) as client:
        with held(server, "synthesis") as gate:
            first = asyncio.ensure_future(client.generate(1))
            await asyncio.to_thread(gate.wait_for, batches=1)
            gate.make_expensive(1000)
            with pytest.raises(OverloadedError):
                await client.generate(2)
            gate.open()
            await first


def test_metrics_are_well_formed(server, prometheus):
    """Promtool finds nothing wrong with the names, types and texts of the metrics."""
    assert not promtool("check", "metrics", text=Scrape(server.metrics_url).text)


def test_rules_and_panels_name_metrics_that_there_are(server, prometheus):
    """No rule and no panel reads a metric that neither the server nor another rule has."""
    there = {sample.name for sample in Scrape(server.metrics_url).samples} | set(RECORDS)
    expressions = [*QUERIES.values(), *(rule["expr"] for rule in (*ALERTS.values(), *RECORDS.values()))]

    assert set() == set().union(*map(names, expressions)) - there


def test_readme_names_every_metric(server):
    """What a server shows is explained, under the name that it has there."""
    explained = set(re.findall(r"`(\w+)`", (MONITORING / "README.md").read_text(encoding="utf-8")))
    families = text_string_to_metric_families(Scrape(server.metrics_url).text)
    shown = {family.name + "_total" * (family.type == "counter") for family in families}

    assert set() == {name for name in shown if not name.startswith(("process_", "python_"))} - explained


def test_rules_are_evaluated(prometheus):
    """Prometheus has loaded every rule, and evaluates each without an error."""
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    assert sorted([*ALERTS, *RECORDS]) == sorted(rule["name"] for rule in rules)
    assert {("ok", "")} == {(rule["health"], rule.get("lastError", "")) for rule in rules}


@pytest.mark.parametrize("record", RECORDS)
def test_recording_rule_gives_numbers(prometheus, record):
    """Every recorded series has a value that is a number."""
    assert prometheus.wait_for(record)


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_looks_at_series_that_there_are(prometheus, alert):
    """Every selector in an alert, labels included, matches something: an alert that reads nothing never fires."""
    read = selectors(ALERTS[alert]["expr"])

    assert [] == [each for each in read if not prometheus.wait_for(f"count({each})")]


@pytest.mark.parametrize("panel", QUERIES)
def test_panel_shows_numbers(prometheus, panel):
    """Every query of the dashboard gives numbers after some work."""
    assert prometheus.wait_for(QUERIES[panel])


def test_counts_are_those_of_the_work(prometheus):
    """What Prometheus has counted is what was done."""

    def count(**labels) -> list[float]:
        chosen = ",".join(f'{name}="{value}"' for name, value in labels.items())
        return prometheus.query(f"grpc_server_handled_total{{{chosen}}}")

    assert [2] == count(grpc_method="Generate", grpc_code="OK")
    assert [1] == count(grpc_method="Generate", grpc_code="NOT_FOUND")
    assert [1] == count(grpc_method="Generate", grpc_code="RESOURCE_EXHAUSTED")
    assert [5] == prometheus.query('grpc_server_msg_sent_total{grpc_method="Interpolate"}')


def test_hung_graph_raises_its_alert(server, prometheus):
    """A graph that hangs is an alert as soon as the server says so."""
    firing = 'ALERTS{alertname="StylewireGraphHung",alertstate="firing",model="pixels",graph="synthesis"}'
    before = prometheus.query(firing)
    with server.channel() as channel, held(server, "synthesis", "pixels") as gate:
        call = pb.StyleGanServiceStub(channel).Generate.future(
            pb.GenerateRequest(model="pixels", latents=[pb.Latent(seed=1)])
        )
        gate.wait_for(batches=1)
        raised = prometheus.wait_for(firing)
        gate.open()
        call.result(timeout=30)

    assert [] == before
    assert [1] == raised
