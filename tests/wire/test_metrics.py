"""What /metrics says, against what clients saw."""

import itertools

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from stylewire import pb
from stylewire.server.telemetry.metrics import CODES
from support.gates import held, one_instance
from support.pictures import avatar
from support.refusals import failure, refusal
from support.scrape import Scrape, wait_for
from support.servers import running_server

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])
WALK = pb.InterpolateRequest(keyframes=[pb.Latent(seed=1), pb.Latent(seed=2)], frame_count=5)
METHODS = {
    pb.STYLEGAN_SERVICE: {"Generate": "unary", "Invert": "unary", "MixStyles": "unary", "Interpolate": "server_stream"},
    pb.MODEL_SERVICE: {"ListModels": "unary", "GetModel": "unary"},
    "grpc.health.v1.Health": {"Check": "unary", "Watch": "server_stream"},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": "bidi_stream"},
    "grpc.reflection.v1.ServerReflection": {"ServerReflectionInfo": "bidi_stream"},
}
LABELS = [
    {"grpc_service": service, "grpc_method": method, "grpc_type": kind}
    for service, methods in METHODS.items()
    for method, kind in methods.items()
]


@pytest.fixture
def server(small_models):
    """A server of one model that nobody has called yet."""
    with running_server(models=small_models / "plain") as server:
        yield server


@pytest.fixture
def stub(server):
    with server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


class Delta:
    """How much samples grew since it was made."""

    def __init__(self, server) -> None:
        self._url, self._before = server.metrics_url, Scrape(server.metrics_url)

    def __call__(self, name, **labels) -> float:
        return Scrape(self._url).count(name, **labels) - self._before.count(name, **labels)


def handled(scrape, method) -> dict[str, float]:
    """Status code -> calls of a method that ended with it."""
    return {
        sample.labels["grpc_code"]: sample.value
        for sample in scrape.samples
        if sample.name == "grpc_server_handled_total" and sample.labels["grpc_method"] == method and sample.value
    }


def test_every_method_is_there_before_its_first_call(server):
    """The standard metrics show every method at 0, so that rates are right from the first scrape."""
    scrape = Scrape(server.metrics_url)

    for name in ("started_total", "msg_received_total", "msg_sent_total", "handling_seconds_count", "handled_total"):
        for labels in LABELS:
            assert 0 == scrape.value(f"grpc_server_{name}", **labels), (name, labels)


def test_every_code_is_there_before_its_first_call(server):
    """A counter that appears at 1 has no increase, so every code of every method is there at 0."""
    scrape = Scrape(server.metrics_url)

    assert {code.name for code in grpc.StatusCode} == set(CODES)
    for labels in LABELS:
        for code in CODES:
            assert 0 == scrape.value("grpc_server_handled_total", grpc_code=code, **labels), (code, labels)


def test_success_is_counted_when_the_answer_is_there(server, stub):
    """Whoever has an answer finds its call in the metrics."""
    stub.Generate(ONE)
    scrape = Scrape(server.metrics_url)

    assert {"OK": 1} == handled(scrape, "Generate")
    for name in ("started_total", "msg_received_total", "msg_sent_total", "handling_seconds_count"):
        assert 1 == scrape.value(f"grpc_server_{name}", grpc_method="Generate"), name


def test_error_is_counted_when_the_answer_is_there(server, stub):
    """A refused call is counted under its code, and sent no message."""
    refusal(stub.Generate, pb.GenerateRequest())
    refusal(stub.Generate, pb.GenerateRequest(model="nobody"))
    scrape = Scrape(server.metrics_url)

    assert {"INVALID_ARGUMENT": 1, "NOT_FOUND": 1} == handled(scrape, "Generate")
    assert 0 == scrape.value("grpc_server_msg_sent_total", grpc_method="Generate")


def test_abort_of_a_foreign_servicer_is_counted(server):
    """The code of a servicer that is not ours, and aborts by itself, is counted."""
    with server.channel() as channel:
        failure(health_pb2_grpc.HealthStub(channel).Check, health_pb2.HealthCheckRequest(service="nobody"))
    scrape = wait_for(server.metrics_url, lambda s: handled(s, "Check"))

    assert {"NOT_FOUND": 1} == handled(scrape, "Check")


def test_stream_counts_its_messages(server, stub):
    """A stream of five frames is one call with five messages."""
    list(stub.Interpolate(WALK))
    scrape = Scrape(server.metrics_url)

    assert {"OK": 1} == handled(scrape, "Interpolate")
    assert 5 == scrape.value("grpc_server_msg_sent_total", grpc_method="Interpolate")
    assert 5 == scrape.value("stylewire_phase_seconds_count", phase="encoding")


def test_stream_that_writes_by_itself_counts_its_messages(server):
    """What a Watch of health tells is counted although its servicer is not ours."""
    with server.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        next(watch)
        scrape = wait_for(server.metrics_url, lambda s: s.count("grpc_server_msg_sent_total", grpc_method="Watch"))
        watch.cancel()

    assert 1 == scrape.value("grpc_server_msg_sent_total", grpc_method="Watch")
    assert 1 == scrape.value("grpc_server_msg_received_total", grpc_method="Watch")


def test_stream_of_requests_counts_its_messages(server):
    """Three questions in one call of reflection are three messages received and three sent."""
    questions = [reflection_pb2.ServerReflectionRequest(list_services="")] * 3
    with server.channel() as channel:
        list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(questions)))
    labels = {"grpc_service": "grpc.reflection.v1alpha.ServerReflection"}
    scrape = wait_for(server.metrics_url, lambda s: s.count("grpc_server_handled_total", **labels))

    assert 3 == scrape.value("grpc_server_msg_received_total", **labels)
    assert 3 == scrape.value("grpc_server_msg_sent_total", **labels)


@pytest.mark.parametrize("taken", [0, 2])
def test_cancelled_stream_is_counted(server, stub, taken):
    """A stream whose reader leaves, before or between frames, ends as CANCELLED."""
    tensor = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
    long = pb.InterpolateRequest(keyframes=WALK.keyframes, frame_count=3600, output_config=tensor)
    stream = stub.Interpolate(long)
    assert taken == len(list(itertools.islice(stream, taken)))
    wait_for(server.metrics_url, lambda s: s.count("grpc_server_started_total", grpc_method="Interpolate") == 1)
    stream.cancel()
    scrape = wait_for(server.metrics_url, lambda s: handled(s, "Interpolate"))

    assert {"CANCELLED": 1} == handled(scrape, "Interpolate")


@pytest.mark.parametrize("method", ["Generate", "Interpolate"])
def test_expired_deadline_is_counted(server, stub, method):
    """A call whose deadline passes ends as DEADLINE_EXCEEDED, not as CANCELLED."""
    with held(server, "synthesis"):
        caught = failure(getattr(stub, method), ONE if method == "Generate" else WALK, timeout=0.3)
        scrape = wait_for(server.metrics_url, lambda s: handled(s, method))

    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.code()
    assert {"DEADLINE_EXCEEDED": 1} == handled(scrape, method)


def test_bytes_that_are_no_request_are_counted(server):
    """Malformed bytes are a client's error in the metrics too."""
    with server.channel() as channel:
        failure(channel.unary_unary(f"/{pb.STYLEGAN_SERVICE}/Generate"), b"\xff")

    assert {"INVALID_ARGUMENT": 1} == handled(Scrape(server.metrics_url), "Generate")


def seconds(duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def test_reply_tells_what_the_histograms_summed(server, stub):
    """Timing and BatchInfo of a reply whose rows ran together are the numbers that went into the histograms."""
    delta = Delta(server)
    with one_instance(server, "synthesis"):
        reply = stub.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=seed) for seed in range(5)]))

    for phase in ("queue", "inference", "encoding"):
        expected = seconds(getattr(reply.timing, phase))
        assert pytest.approx(expected, abs=1e-9) == delta("stylewire_phase_seconds_sum", phase=phase), phase
    assert pytest.approx(seconds(reply.timing.queue), abs=1e-8) == delta("stylewire_queue_seconds_sum")
    assert pytest.approx(seconds(reply.timing.inference), abs=1e-8) == delta("stylewire_batch_run_seconds_sum")
    assert reply.batch.size == delta("stylewire_request_batch_size_sum", graph="synthesis")
    assert 5 == delta("stylewire_batch_size_sum", model="plain", graph="synthesis")
    assert 1 == delta("stylewire_batch_size_count", model="plain", graph="synthesis")


def test_phases_are_within_the_time_of_the_call(demo_server, demo):
    """Queue, inference and encoding of one call add up to no more than the call took."""
    delta = Delta(demo_server)
    request = pb.InvertRequest(image=pb.ImageSource(content=avatar()), return_reconstruction=True)
    timing = demo.Invert(request).timing
    total = delta("grpc_server_handling_seconds_sum", grpc_method="Invert")

    assert 0 < sum(seconds(getattr(timing, phase)) for phase in ("queue", "inference", "encoding")) <= total


def test_refusals_are_counted_by_reason(server, stub):
    """A full queue, a deadline that cannot be met and callers that leave are told apart."""
    delta = Delta(server)
    with held(server, "synthesis") as gate:
        first = stub.Generate.future(ONE)
        gate.wait_for(batches=1)
        left = stub.Generate.future(ONE)
        gate.wait_for(waiting_rows=1)
        left.cancel()
        gate.make_expensive(1000)
        assert "OVERLOADED" == refusal(stub.Generate, ONE).reason
        gate.open()
        first.result()

    assert 1 == delta("stylewire_refused_total", reason="overloaded", graph="synthesis")
    wait_for(server.metrics_url, lambda s: s.count("stylewire_refused_total", reason="cancelled") == 1)


def test_waiting_rows_and_backlog_are_shown(server, stub):
    """While rows wait they are seen, and with them the time they will take; afterwards both are 0."""
    with held(server, "synthesis") as gate:
        first = stub.Generate.future(ONE)
        gate.wait_for(batches=1)
        second = stub.Generate.future(pb.GenerateRequest(latents=[pb.Latent(seed=1)] * 3))
        gate.wait_for(waiting_rows=3)
        busy = Scrape(server.metrics_url)
        gate.open()
        first.result()
        second.result()
    idle = wait_for(server.metrics_url, lambda s: s.value("stylewire_backlog_seconds", graph="synthesis") == 0)

    assert 3 == busy.value("stylewire_waiting_rows", model="plain", graph="synthesis")
    assert busy.value("stylewire_backlog_seconds", model="plain", graph="synthesis") > 0
    assert 0 == idle.value("stylewire_waiting_rows", graph="synthesis")


def test_models_are_shown(small_server):
    """Every loaded model is there with its digest, backend, device and precision."""
    shown = {
        (s.labels["model"], s.labels["backend"], s.labels["device"], s.labels["precision"], s.value)
        for s in Scrape(small_server.metrics_url).samples
        if s.name == "stylewire_model_info"
    }

    assert {(name, "onnxruntime", "cpu", "fp32", 1.0) for name in ("classes", "plain", "rgba", "twin")} == shown


def test_strangers_make_no_series(server, stub):
    """Names that callers invent do not become labels."""
    refusal(stub.Generate, pb.GenerateRequest())
    refusal(stub.Generate, pb.GenerateRequest(model="nobody"))
    before = len(Scrape(server.metrics_url).samples)
    for number in range(5):
        refusal(stub.Generate, pb.GenerateRequest(model=f"nobody{number}"))
        with server.channel() as channel:
            failure(channel.unary_unary(f"/{pb.STYLEGAN_SERVICE}/Paint{number}"), b"")

    assert before == len(Scrape(server.metrics_url).samples)
