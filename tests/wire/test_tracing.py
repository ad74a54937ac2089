"""Traces as a collector gets them: calls, their phases, and batches."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stylewire import pb
from stylewire.server.front.pipeline import rendering
from stylewire.server.telemetry import otlp
from support.collector import PARENT, TRACE, collecting, traceparent
from support.gates import held, one_instance, replaced
from support.pictures import avatar
from support.refusals import failure, refusal
from support.servers import running_server

pytestmark = pytest.mark.usefixtures("prompt_export")

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])
TWO_KEYS = [pb.Latent(seed=1), pb.Latent(seed=2)]
SERVER_KIND = 2


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
def stub(server):
    with server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


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
        def fail(inputs, outputs, *, exclusive):
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
    with one_instance(server, "synthesis"):
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
