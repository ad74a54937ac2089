"""Traces as a collector gets them, and that nobody suffers from a collector that is not there."""

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
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from stylewire import pb
from stylewire.server.app import open_tracer
from stylewire.server.config.settings import SettingError, Settings
from stylewire.server.front.pipeline import rendering
from stylewire.server.telemetry import otlp
from support.collector import collecting
from support.gates import held, one_slot, replaced, submitted
from support.pictures import avatar
from support.refusals import failure, refusal
from support.servers import ServerProcess, running_server

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])
TWO_KEYS = [pb.Latent(seed=1), pb.Latent(seed=2)]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER_KIND = 2
STOP_SECONDS = 8.0
"""Three for the last spans, and what any stop takes on a busy machine."""


@pytest.fixture(autouse=True, scope="module")
def prompt_export():
    """Spans are sent after 20 ms, not after 5 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        yield


@pytest.fixture(scope="module")
def traced(prompt_export):
    """A server of the demo models, and its collector."""
    with collecting() as collector, running_server(otlp_endpoint=collector.endpoint) as server:
        yield server, collector


@pytest.fixture
def server(traced):
    return traced[0]


@pytest.fixture
def collector(traced):
    """The collector of ``server``, with nothing from before."""
    server, collector = traced
    server.app.tracer.flush()
    collector.forget()
    return collector


@pytest.fixture
def other():
    """A collector for a server that a test starts."""
    with collecting() as collector:
        yield collector


@pytest.fixture
def stub(server):
    with server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


def traceparent(flags="01"):
    return (("traceparent", f"00-{TRACE}-{PARENT}-{flags}"), ("tracestate", "vendor=1"))


def names(spans) -> list[str]:
    return [span.name for span in spans]


def batches(spans, graph="synthesis"):
    return [span for span in spans if span.name == f"batch avatars.{graph}"]


def seconds(duration) -> float:
    return duration.seconds + duration.nanos / 1e9


# --- calls -----------------------------------------------------------------------------------------------------------


def test_call_is_one_server_span_with_the_conventional_attributes(stub, collector):
    """A call is a span of the kind SERVER, named and described as OpenTelemetry's conventions want it."""
    stub.Generate(ONE, metadata=(("x-request-id", "mine"),))
    (call,) = collector.call("Generate")

    assert ("stylewire.v1.StyleGanService/Generate", SERVER_KIND, "") == (call.name, call.kind, call.parent_id)
    assert {
        "rpc.system": "grpc",
        "rpc.system.name": "grpc",
        "rpc.service": "stylewire.v1.StyleGanService",
        "rpc.method": "Generate",
        "rpc.grpc.status_code": 0,
        "rpc.response.status_code": "OK",
        "stylewire.request_id": "mine",
    } == call.attributes
    assert not call.failed


def test_incoming_context_is_continued(stub, collector):
    """The call is in the caller's trace, below the caller's span, and keeps the caller's tracestate."""
    stub.Generate(ONE, metadata=traceparent())
    (call,) = collector.call("Generate")

    assert (TRACE, PARENT, "vendor=1") == (call.trace_id, call.parent_id, call.tracestate)
    assert {TRACE} == {phase.trace_id for phase in collector.phases(call)}


@pytest.mark.parametrize(
    "header", ["", "00-x", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "0" * 4000], ids=len
)
def test_malformed_context_begins_a_new_trace(stub, collector, caplog, header):
    """A traceparent that is none is ignored, and fills no log."""
    stub.Generate(ONE, metadata=(("traceparent", header), ("tracestate", "=,;")))
    (call,) = collector.call("Generate")

    assert "" == call.parent_id
    assert TRACE != call.trace_id
    # Two event loops in one process, as only tests have, make grpc note that they woke each other.
    assert [] == [record.getMessage() for record in caplog.records if record.name != "asyncio"]


def test_probes_make_no_spans(server, stub, collector):
    """Health checks are not traced."""
    with server.channel() as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    stub.Generate(ONE)
    collector.call("Generate")

    assert [] == [name for name in names(collector.spans) if "Health" in name]


def test_strangers_are_not_followed(small_models, tmp_path, other):
    """A call without a known token makes no span, whatever its context says; one with a token does."""
    tokens = tmp_path / "tokens"
    tokens.write_text("anna secret-of-anna-0123456789abcdef\n")
    settings = {"models": small_models / "plain", "tokens_file": tokens, "otlp_endpoint": other.endpoint}
    with running_server(**settings) as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        assert "UNAUTHENTICATED" == refusal(stub.Generate, ONE, metadata=traceparent()).reason
        stub.Generate(ONE, metadata=(("authorization", "Bearer secret-of-anna-0123456789abcdef"),))
        (call,) = other.call("Generate")

    assert TRACE not in {span.trace_id for span in other.spans}
    assert "" == call.parent_id


def test_line_of_a_call_has_its_trace(stub, caplog):
    """Whoever reads the log finds the trace, sampled or not."""
    caplog.set_level("INFO")
    stub.Generate(ONE, metadata=traceparent("00"))
    (line,) = [record.msg for record in caplog.records if record.name.endswith("interceptor")]

    assert TRACE == line["trace_id"]


def test_refusal_is_no_error_of_the_server(stub, collector):
    """A wrong request ends with its code, and its span is not an error; its model is there, cut short."""
    refusal(stub.Generate, pb.GenerateRequest(model="n" * 200, latents=ONE.latents))
    (call,) = collector.call("Generate")

    assert (5, "NOT_FOUND", "n" * 64) == (
        call.attributes["rpc.grpc.status_code"],
        call.attributes["rpc.response.status_code"],
        call.attributes["stylewire.model"],
    )
    assert not call.failed


def test_failed_batch_is_an_error_without_its_text(server, stub, collector):
    """A batch that fails, and the call in it, are errors that name the class, and nothing that an exception says."""

    def failing(run):
        def fail(inputs, outputs, *, wide):
            raise ArithmeticError("secret of a request")

        return fail

    with replaced(server, "synthesis", failing):
        assert grpc.StatusCode.INTERNAL == failure(stub.Generate, ONE).code()
    (call,) = collector.call("Generate")
    (batch,) = batches(collector.spans)

    assert call.failed
    assert "INTERNAL" == call.attributes["error.type"]
    assert [("queue", False), ("run synthesis", True)] == [(p.name, p.failed) for p in collector.phases(call)[-2:]]
    assert (True, "ArithmeticError") == (batch.failed, batch.attributes["error.type"])
    assert "secret" not in str(collector.spans)


# --- phases ----------------------------------------------------------------------------------------------------------


def test_phases_are_the_timing_of_the_reply(server, stub, collector):
    """Waiting, running and encoding are spans within the call, and add up to what the reply tells."""
    with one_slot(server, "synthesis"):
        timing = stub.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=seed) for seed in range(5)])).timing
    (call,) = collector.call("Generate")
    phases = collector.phases(call)

    assert ["run mapping", "queue", "run synthesis", "encode"] == names(phases)
    for phase, names_of_it in (("queue", "queue"), ("inference", "run "), ("encoding", "encode")):
        told = sum(span.seconds for span in phases if span.name.startswith(names_of_it))
        assert pytest.approx(seconds(getattr(timing, phase)), abs=1e-5) == told, phase
    assert all(call.start <= phase.start <= phase.stop <= call.stop for phase in phases)


REQUESTS = {
    "Generate": (
        pb.GenerateRequest(latents=ONE.latents, noise=pb.Noise(mode=pb.Noise.MODE_RANDOM)),
        ["run mapping", "noise_inputs", "queue", "run synthesis", "encode"],
    ),
    "MixStyles": (
        pb.MixStylesRequest(content=pb.Latent(seed=1), styles=[pb.StyleSource(latent=pb.Latent(seed=2))]),
        ["run mapping", "queue", "run synthesis", "encode"],
    ),
    "Invert": (
        pb.InvertRequest(image=pb.ImageSource(content=avatar()), return_reconstruction=True),
        ["parse", "queue", "run encoder", "encode_input", "queue", "run synthesis", "encode", "distortion"],
    ),
    "Interpolate": (
        pb.InterpolateRequest(keyframes=TWO_KEYS, frame_count=2),
        ["encode", "encode", "queue", "queue", "run mapping", "run synthesis", "run synthesis"],
    ),
}


@pytest.mark.parametrize("method", REQUESTS)
def test_every_call_tells_its_phases(stub, collector, method):
    """Whatever takes time in a call is a span within it; frames of a stream belong to its call."""
    request, expected = REQUESTS[method]
    answer = getattr(stub, method)(request)
    if method == "Interpolate":
        list(answer)
    (call,) = collector.call(method)
    found = names(collector.phases(call))

    assert expected == (sorted(found) if method == "Interpolate" else found)


def test_caller_that_leaves_leaves_a_wait(server, stub, collector):
    """A call that is given up while it waits has waited, and not run."""
    with held(server, "synthesis") as gate:
        first = stub.Generate.future(ONE)
        gate.wait_for(batches=1)
        left = stub.Generate.future(ONE)
        gate.wait_for(waiting_rows=1)
        left.cancel()
        (call,) = collector.call("Generate")
        gate.open()
        first.result()

    assert "CANCELLED" == call.attributes["rpc.response.status_code"]
    assert ["run mapping", "queue"] == names(collector.phases(call))


def test_failed_encoding_is_of_its_call_only(stub, collector, monkeypatch):
    """A picture that cannot be encoded is an error of that phase, not of the batch, which ran."""

    def fail(output, executor, arrays):
        raise ArithmeticError("secret of a request")

    monkeypatch.setattr(rendering, "encode_rows", fail)
    assert grpc.StatusCode.INTERNAL == failure(stub.Generate, ONE).code()
    (call,) = collector.call("Generate")
    (batch,) = batches(collector.spans)

    assert not batch.failed
    assert {"queue": False, "run synthesis": False, "encode": True} == {
        phase.name: phase.failed for phase in collector.phases(call)[1:]
    }


def test_phases_of_a_call_are_bounded(stub, collector, monkeypatch):
    """Past the limit phases are only counted, so that a long stream is a trace that can be looked at."""
    monkeypatch.setattr(otlp, "_MOST_PHASES", 3)
    stub.Generate(ONE)
    (call,) = collector.call("Generate")

    assert (3, 1) == (len(collector.phases(call)), call.attributes["stylewire.phases_left_out"])


# --- batches ---------------------------------------------------------------------------------------------------------


def test_batch_links_exactly_the_calls_in_it(server, stub, collector):
    """A batch is the root of a trace of its own, with links to its calls; each call's run links to the batch."""
    with held(server, "synthesis") as gate:
        first = stub.Generate.future(ONE)
        gate.wait_for(batches=1)
        others = [stub.Generate.future(ONE, metadata=traceparent()) for _ in range(3)]
        gate.wait_for(waiting_rows=3)
        gate.open()
        for each in (first, *others):
            each.result()
    calls = collector.call("Generate", 4)
    alone, together = sorted(batches(collector.spans), key=lambda span: span.start)

    assert {call.span_id for call in calls if call.trace_id == TRACE} == set(together.links)
    assert [call.span_id for call in calls if call.trace_id != TRACE] == list(alone.links)
    assert "" == together.parent_id
    assert together.trace_id not in {call.trace_id for call in calls}
    assert {
        "stylewire.model": "avatars",
        "stylewire.graph": "synthesis",
        "stylewire.backend": "onnxruntime",
        "stylewire.batch.size": 3,
        "stylewire.batch.requests": 3,
        "stylewire.batch.dispatch": "idle",
        "stylewire.batch.wide": False,
    } == together.attributes
    for call in calls:
        (run,) = [phase for phase in collector.phases(call) if phase.name == "run synthesis"]
        assert ((together if call.trace_id == TRACE else alone).span_id,) == run.links
        assert call.start <= run.start < run.stop <= call.stop


def test_frames_of_a_stream_link_their_call_once(server, stub, collector):
    """A batch of several frames of one call has one link to it."""
    with held(server, "synthesis") as gate:
        first = stub.Generate.future(ONE)
        gate.wait_for(batches=1)
        frames = stub.Interpolate(pb.InterpolateRequest(keyframes=TWO_KEYS, frame_count=5))
        gate.wait_for(waiting_rows=5)
        gate.open()
        assert 5 == len(list(frames))
        first.result()
    (call,) = collector.call("Interpolate")
    together = max(batches(collector.spans), key=lambda span: span.start)

    assert (5, 5) == tuple(together.attributes[f"stylewire.batch.{count}"] for count in ("size", "requests"))
    assert (call.span_id,) == together.links


# --- sampling --------------------------------------------------------------------------------------------------------


def test_sampling_follows_the_caller_and_else_the_ratio(other):
    """At ratio 0 only calls are traced whose caller says so; batches of the others make no spans."""
    with (
        running_server(otlp_endpoint=other.endpoint, trace_sample_ratio=0.0) as server,
        server.channel() as channel,
    ):
        stub = pb.StyleGanServiceStub(channel)
        for metadata in ((), traceparent("00"), traceparent("01")):
            stub.Generate(ONE, metadata=metadata)
        (call,) = other.call("Generate")

    assert TRACE == call.trace_id
    assert [(call.span_id,)] == [batch.links for batch in batches(other.spans)]
    assert 1 == sum(span.kind == SERVER_KIND for span in other.spans)


def test_batch_counts_calls_that_are_not_traced(server, stub, collector):
    """Of a batch with traced and other calls, the span links the traced ones and counts all."""
    with held(server, "synthesis") as gate:
        first = stub.Generate.future(ONE, metadata=traceparent("00"))
        gate.wait_for(batches=1)
        others = [stub.Generate.future(ONE, metadata=traceparent(flags)) for flags in ("00", "01")]
        gate.wait_for(waiting_rows=2)
        gate.open()
        for each in (first, *others):
            each.result()
    (call,) = collector.call("Generate")
    (batch,) = batches(collector.spans)

    assert (call.span_id,) == batch.links
    assert (2, 2) == (batch.attributes["stylewire.batch.requests"], batch.attributes["stylewire.batch.size"])


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
