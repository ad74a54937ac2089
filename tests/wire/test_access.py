"""Who may call, over a real connection: tokens, rates, and what probes need."""

import json
import signal

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stylewire import pb
from stylewire.status import from_rpc_error
from support.gates import held
from support.refusals import failure, refusal
from support.scrape import Scrape, wait_for
from support.servers import ServerProcess, running_server

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])
WALK = pb.InterpolateRequest(keyframes=[pb.Latent(seed=1), pb.Latent(seed=2)], frame_count=2)
WEB, BATCH = "web-token-0123456789", "batch-token-0123456789"


def bearer(token):
    return [("authorization", f"Bearer {token}")]


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"web {WEB}\nbatch {BATCH}\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def guarded(small_models, tokens_file):
    """A server that wants tokens."""
    with running_server(models=small_models / "plain", tokens_file=tokens_file) as server:
        yield server


@pytest.fixture
def stub(guarded):
    with guarded.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


def test_token_opens_every_rpc(guarded, stub):
    """With a token calls are answered as without."""
    with guarded.channel() as channel:
        listed = pb.ModelServiceStub(channel).ListModels(pb.ListModelsRequest(), metadata=bearer(WEB))

    assert 1 == len(stub.Generate(ONE, metadata=bearer(WEB)).images)
    assert 2 == len(list(stub.Interpolate(WALK, metadata=bearer(BATCH))))
    assert ["plain"] == [model.name for model in listed.models]


@pytest.mark.parametrize("metadata", [None, bearer("nobody-has-this-token"), [("authorization", "Basic abc")]])
@pytest.mark.parametrize("method", ["Generate", "Interpolate"])
def test_call_without_token_is_refused(guarded, stub, method, metadata):
    """Unary calls and streams without a known token are UNAUTHENTICATED, with a request id, and are counted."""
    before = Scrape(guarded.metrics_url)
    error = refusal(getattr(stub, method), ONE if method == "Generate" else WALK, metadata=metadata)
    after = Scrape(guarded.metrics_url)

    def grown(name, **labels):
        return after.count(name, **labels) - before.count(name, **labels)

    assert ("UNAUTHENTICATED", True) == (error.reason, bool(error.request_id))
    assert 1 == grown("stylewire_rejected_calls_total", reason="UNAUTHENTICATED")
    assert 1 == grown("grpc_server_handled_total", grpc_method=method, grpc_code="UNAUTHENTICATED")


def test_request_without_token_is_not_read(guarded):
    """A stranger cannot make the server take in megabytes: the call is refused before its message is received."""
    before = Scrape(guarded.metrics_url)
    with guarded.channel() as channel:
        call = channel.unary_unary(f"/{pb.STYLEGAN_SERVICE}/Generate")
        caught = failure(call, bytes(50 << 20))
    after = Scrape(guarded.metrics_url)

    assert grpc.StatusCode.UNAUTHENTICATED == caught.code()
    assert before.count("grpc_server_msg_received_total") == after.count("grpc_server_msg_received_total")


def test_probes_need_no_token(guarded):
    """Health is answered to everybody; reflection is not."""
    with guarded.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        reflect = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        caught = failure(reflect, iter([b""]))

    assert health_pb2.HealthCheckResponse.SERVING == health.status
    assert grpc.StatusCode.UNAUTHENTICATED == caught.code()


def test_replaced_token_counts_without_a_restart(small_models, tmp_path):
    """A file that changes is read again while the server runs."""
    path = tmp_path / "tokens"
    path.write_text(f"web {WEB}\n", encoding="utf-8")
    settings = {"models": small_models / "plain", "tokens_file": path, "hang_seconds": 0.1}
    with running_server(**settings) as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        stub.Generate(ONE, metadata=bearer(WEB))
        path.write_text(f"web {BATCH}\n", encoding="utf-8")
        wait_for(server.metrics_url, lambda _: accepted(stub, BATCH))

        assert "UNAUTHENTICATED" == refusal(stub.Generate, ONE, metadata=bearer(WEB)).reason


def accepted(stub, token) -> bool:
    try:
        stub.Generate(ONE, metadata=bearer(token))
    except grpc.RpcError:
        return False
    return True


def test_rate_of_a_client_is_limited(small_models, tokens_file):
    """A client that calls too often hears when to come back, as pushback too; others are not touched."""
    limits = {"tokens_file": tokens_file, "max_calls_per_second": 0.01}
    with running_server(models=small_models / "plain", **limits) as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        stub.Generate(ONE, metadata=bearer(WEB))
        caught = failure(stub.Generate, ONE, metadata=bearer(WEB))
        error = from_rpc_error(caught)

        assert 1 == len(stub.Generate(ONE, metadata=bearer(BATCH)).images)
        assert ("RATE_LIMITED", grpc.StatusCode.RESOURCE_EXHAUSTED) == (error.reason, caught.code())
        assert 90 < error.retry_after_seconds <= 100
        assert str(round(error.retry_after_seconds * 1e3)) == dict(caught.trailing_metadata())["grpc-retry-pushback-ms"]


def test_open_calls_of_a_client_are_limited(small_models):
    """Without tokens a client is an address: its third call waits for nobody, and works when one has ended."""
    with running_server(models=small_models / "plain", max_calls_per_client=2) as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        with held(server, "synthesis") as gate:
            first = stub.Generate.future(ONE)
            gate.wait_for(batches=1)
            second = stub.Generate.future(ONE)
            gate.wait_for(waiting_rows=1)
            refused = refusal(stub.Generate, ONE)
            gate.open()
            first.result()
            second.result()

        assert "RATE_LIMITED" == refused.reason
        assert 1 == len(stub.Generate(ONE).images)


def test_open_calls_of_all_are_limited(small_models):
    """When as many calls are in flight as may be, the next is refused and health still answers."""
    with running_server(models=small_models / "plain", max_open_calls=1) as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        with held(server, "synthesis") as gate:
            first = stub.Generate.future(ONE)
            gate.wait_for(batches=1)
            refused = refusal(stub.Generate, ONE)
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            gate.open()
            first.result()

        assert "OVERLOADED" == refused.reason
        assert health_pb2.HealthCheckResponse.SERVING == health.status
        assert 1 == len(stub.Generate(ONE).images)


@pytest.mark.parametrize("method", ["Generate", "Interpolate"])
def test_cancelled_call_is_not_in_flight(small_models, method):
    """A client that leaves its calls has them free again."""
    with running_server(models=small_models / "plain", max_calls_per_client=1) as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        with held(server, "synthesis") as gate:
            call = stub.Generate.future(ONE) if method == "Generate" else stub.Interpolate(WALK)
            gate.wait_for(batches=1)
            call.cancel()
            wait_for(server.metrics_url, lambda s: s.count("grpc_server_handled_total", grpc_code="CANCELLED") == 1)
            gate.open()

        assert 1 == len(stub.Generate(ONE).images)


def test_log_names_client_and_call(small_models, tokens_file):
    """One JSON line a call says who called what, how it ended and where its time went, and holds no secret."""
    arguments = ["--tokens-file", str(tokens_file), "--log-format", "json"]
    server = ServerProcess(*arguments, models=small_models / "plain")
    try:
        with grpc.insecure_channel(server.address) as channel:
            stub = pb.StyleGanServiceStub(channel)
            stub.Generate(ONE, metadata=[*bearer(WEB), ("x-request-id", "abc")])
            stub.Generate.with_call(ONE, metadata=bearer(WEB))
            failure(stub.Generate, pb.GenerateRequest(model="no\nbody"), metadata=bearer(BATCH))
            failure(stub.Generate, ONE)
        code, text = server.stop(signal.SIGTERM)
    finally:
        server.kill()
    lines = [json.loads(line) for line in text.splitlines()]
    calls = [line for line in lines if "request_id" in line]

    assert 0 == code
    assert [("web", "OK"), ("web", "OK"), ("batch", "NOT_FOUND"), ("-", "UNAUTHENTICATED")] == [
        (call["client"], call["code"]) for call in calls
    ]
    assert ("abc", "Generate", 1) == (calls[0]["request_id"], calls[0]["method"], calls[0]["batch"])
    assert calls[0]["peer"].startswith("ipv4:127.0.0.1:")
    assert "no\\nbody" == calls[2]["model"]
    parts = [calls[0][f"{phase}_ms"] for phase in ("queue", "inference", "encoding")]
    assert 0 < sum(parts) <= calls[0]["total_ms"] + 0.2
    assert WEB not in text
    assert BATCH not in text
