"""How traces go to a collector, and that nobody suffers from one that is not there."""

import contextlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import grpc
import pytest
from pydantic import ValidationError

from stylewire import pb
from stylewire.server.app import open_tracer
from stylewire.server.config.settings import SettingError, Settings
from support.collector import collecting, traceparent
from support.gates import submitted
from support.servers import ServerProcess, running_server

pytestmark = pytest.mark.usefixtures("prompt_export")

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])
STOP_SECONDS = 8.0
"""Three for the last spans, and what any stop takes on a busy machine."""


# --- export ----------------------------------------------------------------------------------------------------------


def test_resource_says_who_we_are_unless_told(other, monkeypatch):
    """The service is called stylewire unless the standard variables name it; they add what they like."""
    with running_server(otlp_endpoint=other.endpoint) as server, server.channel() as channel:
        pb.ModelServiceStub(channel).ListModels(pb.ListModelsRequest())
    monkeypatch.setenv("OTEL_SERVICE_NAME", "faces")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    with running_server(otlp_endpoint=other.endpoint) as server, server.channel() as channel:
        pb.ModelServiceStub(channel).ListModels(pb.ListModelsRequest())
    usual, named = (span.resource for span in other.call("ListModels", 2))

    assert ("stylewire", "faces") == (usual["service.name"], named["service.name"])
    assert "test" == named["deployment.environment"]
    assert usual["service.version"] == named["service.version"] == importlib.metadata.version("stylewire")


def test_last_spans_are_sent_before_the_end(other, monkeypatch):
    """What has not been sent when the server stops is sent then."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    with running_server(otlp_endpoint=other.endpoint) as server, server.channel() as channel:
        pb.StyleGanServiceStub(channel).Generate(ONE)
        before = other.spans

    assert [] == before
    assert 1 == len(other.call("Generate"))


def test_headers_reach_the_collector(other):
    """Headers go to the collector, decoded."""
    with (
        running_server(otlp_endpoint=other.endpoint, otlp_headers="Api-Key=s3cret,x-scope=a%20b") as server,
        server.channel() as channel,
    ):
        pb.StyleGanServiceStub(channel).Generate(ONE)
        other.call("Generate")

    assert ("s3cret", "a b") == (other.metadata["api-key"], other.metadata["x-scope"])


def test_outage_of_the_collector_is_told_once(caplog, monkeypatch):
    """While the collector is away the log has one warning, whatever is lost; then one line that it is back."""
    caplog.set_level("DEBUG")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    with collecting() as collector:
        address = collector.endpoint
    late = contextlib.ExitStack()
    with late, running_server(otlp_endpoint=address) as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        while 3 > sum("Reinitializing" in record.message for record in caplog.records):  # one for each lost batch
            stub.Generate(ONE)
        back = late.enter_context(collecting(address.removeprefix("http://")))
        while not back.spans:
            stub.Generate(ONE)
    ours = [record for record in caplog.records if record.name.startswith(("opentelemetry", "stylewire"))]
    told = [record for record in ours if record.levelname not in {"DEBUG", "INFO"}]

    assert ["WARNING"] == [record.levelname for record in told]
    assert address.removeprefix("http://") in told[0].message
    assert 1 == sum("takes spans again" in record.message for record in caplog.records)


@pytest.fixture
def silent_port():
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("kind", ["absent", "silent"])
def test_collector_that_does_not_answer_holds_up_nobody(small_models, silent_port, kind):
    """Without an answer of the collector calls are served, and the server stops with exit code 0 within seconds."""
    endpoint = f"http://127.0.0.1:{1 if kind == 'absent' else silent_port}"
    server = ServerProcess("--otlp-endpoint", endpoint, models=small_models / "plain")
    try:
        with grpc.insecure_channel(server.address) as channel:
            stub = pb.StyleGanServiceStub(channel)
            for _ in range(20):
                stub.Generate(ONE, timeout=10)
        started = time.monotonic()
        code, log = server.stop(signal.SIGTERM)
        stopped = time.monotonic() - started
    finally:
        server.kill()
    print(f"stopped in {stopped:.1f} s")

    assert 0 == code, log
    assert stopped < STOP_SECONDS
    assert log.count("WARNING") <= 1, log
    assert "Traceback" not in log


def test_workers_are_told_apart(small_models, other):
    """Each process of --workers exports by itself, as an instance of its own."""
    server = ServerProcess("--otlp-endpoint", other.endpoint, "--workers", "2", models=small_models / "plain")
    try:
        until = time.monotonic() + 60
        while 2 > len({span.resource["service.instance.id"] for span in other.spans}):
            assert time.monotonic() < until
            with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                pb.StyleGanServiceStub(channel).Generate(ONE, timeout=30)
    finally:
        server.kill()

    assert 2 == len({span.resource["process.pid"] for span in other.spans})


# --- settings --------------------------------------------------------------------------------------------------------


def python(code, **variables) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STYLEWIRE_")}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=60, check=False)


def test_missing_extra_is_named():
    """A collector without the packages is one sentence that says what to install."""
    ended = python(
        """
        import sys
        sys.modules["opentelemetry"] = None
        from stylewire.server.main import main
        sys.exit(main(["--port", "0", "--metrics-port", "0", "--otlp-endpoint", "http://collector:4317"]))
        """
    )

    assert 1 == ended.returncode
    assert "pip install 'stylewire[tracing]'" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_without_a_collector_nothing_is_loaded():
    """A server that is told of no collector imports nothing of OpenTelemetry, whatever the standard variables say."""
    ended = python(
        """
        import asyncio, sys
        from stylewire.server.app import App
        from stylewire.server.config.settings import Settings

        async def live():
            app = App(Settings(port=0, metrics_port=0, backend="onnxruntime"))
            await app.start()
            await app.stop(0)

        asyncio.run(live())
        print([name for name in sys.modules if name.startswith(("opentelemetry", "stylewire.server.telemetry.otlp"))])
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
    )

    assert "[]\n" == ended.stdout, ended.stderr


def test_without_a_collector_no_call_is_followed(demo_server, demo):
    """What waits for a graph knows of no trace, even if its caller has one."""
    with submitted(demo_server, "synthesis") as requests:
        demo.Generate(ONE, metadata=traceparent())

    assert [None] == [request.trace for request in requests]


def test_headers_are_shown_nowhere():
    """The settings that a server logs have no secret of the collector's in them."""
    settings = Settings(otlp_headers="api-key=s3cret")

    assert "s3cret" not in f"{settings} {settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize("headers", ["s3cret", "a=b,s3cret", "api key=s3cret", "api-key=s3cret%0A", "=s3cret"])
def test_malformed_headers_are_refused_unseen(headers):
    """Headers that gRPC would refuse, with them in its message, are refused by their place."""
    with pytest.raises(SettingError) as caught:
        open_tracer(Settings(otlp_endpoint="http://127.0.0.1:1", otlp_headers=headers))

    assert f"entry {2 if ',' in headers else 1} is no name=value" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["collector:4317", "grpc://collector:4317", "http://", "http://me:pass@collector"])
def test_endpoint_has_a_scheme_and_no_password(endpoint):
    """An endpoint that is no http or https address is refused; secrets have a setting of their own."""
    with pytest.raises(ValidationError, match="otlp_endpoint"):
        Settings(otlp_endpoint=endpoint)
