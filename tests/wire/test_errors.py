"""The table of errors, row by row, over a real connection."""

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from stylewire import errors, pb
from stylewire.errors import Violation
from stylewire.server.front.pipeline import interpolation
from stylewire.server.front.pipeline.pipeline import Pipeline
from stylewire.status import BY_REASON, DOMAIN, from_rpc_error
from support.gates import closed, held, replaced
from support.refusals import failure, refusal
from support.servers import loading_server

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])
WALK = pb.InterpolateRequest(keyframes=[pb.Latent(seed=1), pb.Latent(seed=2)], frame_count=3)

ROWS = {
    "INVALID_FIELD": (grpc.StatusCode.INVALID_ARGUMENT, error_details_pb2.BadRequest),
    "MODEL_NOT_FOUND": (grpc.StatusCode.NOT_FOUND, error_details_pb2.ResourceInfo),
    "UNSUPPORTED": (grpc.StatusCode.FAILED_PRECONDITION, error_details_pb2.PreconditionFailure),
    "NO_FACE": (grpc.StatusCode.FAILED_PRECONDITION, error_details_pb2.PreconditionFailure),
    "MODEL_LOAD_FAILED": (grpc.StatusCode.FAILED_PRECONDITION, error_details_pb2.PreconditionFailure),
    "UNAUTHENTICATED": (grpc.StatusCode.UNAUTHENTICATED, None),
    "PERMISSION_DENIED": (grpc.StatusCode.PERMISSION_DENIED, None),
    "DEADLINE": (grpc.StatusCode.DEADLINE_EXCEEDED, None),
    "UNAVAILABLE": (grpc.StatusCode.UNAVAILABLE, error_details_pb2.RetryInfo),
    "MODEL_NOT_READY": (grpc.StatusCode.UNAVAILABLE, error_details_pb2.RetryInfo),
    "DRAINING": (grpc.StatusCode.UNAVAILABLE, error_details_pb2.RetryInfo),
    "BACKEND_UNAVAILABLE": (grpc.StatusCode.UNAVAILABLE, error_details_pb2.RetryInfo),
    "OVERLOADED": (grpc.StatusCode.RESOURCE_EXHAUSTED, error_details_pb2.RetryInfo),
    "RATE_LIMITED": (grpc.StatusCode.RESOURCE_EXHAUSTED, error_details_pb2.RetryInfo),
    "INTERNAL": (grpc.StatusCode.INTERNAL, None),
}
"""Reason -> status code, detail beside ErrorInfo. Source: the design of the API, section "Errors"."""


def make(reason: str) -> errors.StylewireError:
    """An error of this reason with everything that such an error may carry."""
    detail = ROWS[reason][1]
    return BY_REASON[reason](
        f"what to do about {reason}",
        violations=[Violation("a.b", "is 1"), Violation("c[0]", "is 2")] * (detail is error_details_pb2.BadRequest),
        retry_after_seconds=1.25 if detail is error_details_pb2.RetryInfo else None,
        resource=("stylewire.Model", "x") if detail is error_details_pb2.ResourceInfo else None,
    )


@pytest.fixture
def raising(monkeypatch, small):
    """Make the next calls fail: Generate at once, Interpolate after its first frame."""

    def arrange(error):
        interpolate = interpolation.interpolate

        async def fail(self, job, call):
            raise error

        async def fail_after_one(*args):
            async for frame in interpolate(*args):
                yield frame
                raise error

        monkeypatch.setattr(Pipeline, "generate", fail)
        monkeypatch.setattr(interpolation, "interpolate", fail_after_one)
        return small

    return arrange


def details(error: grpc.RpcError) -> dict[str, object]:
    """Name -> detail of the status."""
    kinds = {
        kind.DESCRIPTOR.full_name: kind
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.RetryInfo,
            error_details_pb2.ResourceInfo,
            error_details_pb2.PreconditionFailure,
        )
    }
    found = {}
    for packed in rpc_status.from_call(error).details:
        kind = kinds[packed.type_url.rpartition("/")[2]]
        found[kind.DESCRIPTOR.name] = kind.FromString(packed.value)
    return found


def trailers(error) -> dict[str, str | bytes]:
    return dict(error.trailing_metadata())


def test_table_has_a_row_for_every_reason():
    """No error is without a row here."""
    assert set(ROWS) == set(BY_REASON)


@pytest.mark.parametrize("reason", ROWS)
def test_error_travels_with_its_row(raising, reason):
    """Code, reason, domain, request id and details are those of the table."""
    code, detail = ROWS[reason]
    caught = failure(raising(make(reason)).Generate, ONE, metadata=[("x-request-id", "my-id")])
    found = details(caught)

    assert (code, f"what to do about {reason}") == (caught.code(), caught.details())
    assert (reason, DOMAIN, {"request_id": "my-id"}) == (
        found["ErrorInfo"].reason,
        found["ErrorInfo"].domain,
        dict(found["ErrorInfo"].metadata),
    )
    assert {"ErrorInfo"} | ({detail.DESCRIPTOR.name} if detail else set()) == set(found)


@pytest.mark.parametrize("reason", ROWS)
@pytest.mark.parametrize("method", ["Generate", "Interpolate"])
def test_client_raises_what_the_server_raised(raising, method, reason):
    """Class, message, violations, resource and delay survive the way, in a single reply and inside a stream."""
    raised = make(reason)
    got = refusal(getattr(raising(raised), method), ONE if method == "Generate" else WALK)

    assert type(raised) is type(got)
    for name in ("message", "violations", "retry_after_seconds", "resource"):
        assert getattr(raised, name) == getattr(got, name), name


def test_frames_before_an_error_arrive(raising):
    """A stream that fails in the middle has delivered what came before."""
    stream = raising(make("UNSUPPORTED")).Interpolate(WALK)

    assert 0 == next(stream).frame_index
    with pytest.raises(grpc.RpcError):
        next(stream)


@pytest.mark.parametrize("given", ["trace/0-9.a_b:c=+", "x" * 128])
def test_request_id_is_echoed(small, given):
    """The caller's request id comes back, in success and in failure."""
    metadata = [("x-request-id", given)]
    _, call = small.Generate.with_call(ONE, metadata=metadata)
    caught = failure(small.Generate, pb.GenerateRequest(), metadata=metadata)

    assert given == dict(call.trailing_metadata())["x-request-id"]
    assert given == trailers(caught)["x-request-id"]


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a;b", '"quoted"'])
def test_request_id_is_made_when_there_is_no_good_one(small, given):
    """Without an id, or with one that could forge a log line, the server makes one."""
    metadata = [] if given is None else [("x-request-id", given)]
    calls = [small.Generate.with_call(ONE, metadata=metadata)[1] for _ in range(2)]
    made = [dict(call.trailing_metadata())["x-request-id"] for call in calls]

    assert [32, 32] == [len(each) for each in made]
    assert 2 == len({*made})


def test_internal_error_hides_its_text(small_server, small, caplog):
    """A bug's text stays in the log, with its traceback under the request id that the caller is told."""

    def broken(_):
        def run(inputs, outputs, *, exclusive):
            raise RuntimeError("secret of /srv/models")

        return run

    with replaced(small_server, "synthesis", broken):
        caught = failure(small.Generate, ONE)
    error = from_rpc_error(caught)

    assert errors.InternalError is type(error)
    assert "secret" not in str(caught)
    assert error.request_id in error.message
    (record,) = [r for r in caplog.records if r.name == "stylewire.server.front.transport.interceptor" and r.exc_info]
    assert error.request_id in record.getMessage()
    assert "secret of /srv/models" in caplog.text
    assert small.Generate(ONE).images


def test_overload_says_when_to_come_back(small_server, small):
    """A full queue is RESOURCE_EXHAUSTED with RetryInfo, and a trailer that makes gRPC clients wait as long."""
    with held(small_server, "synthesis", "plain") as gate:
        gate.make_expensive(1000)
        accepted = small.Generate.future(ONE)
        gate.wait_for(batches=1)
        caught = failure(small.Generate, ONE)
        gate.open()
        accepted.result()
    error = from_rpc_error(caught)

    assert errors.OverloadedError is type(error)
    assert error.retry_after_seconds > 5
    assert round(error.retry_after_seconds * 1000) == int(trailers(caught)["grpc-retry-pushback-ms"])


def test_deadline_that_cannot_be_met_is_refused_at_once(small_server, small):
    """The server says no while there is time: the caller need not wait for its deadline."""
    with held(small_server, "synthesis", "plain") as gate:
        gate.make_expensive(1000)
        error = refusal(small.Generate, ONE, timeout=20)

    assert errors.DeadlineError is type(error)
    assert "cannot be met" in error.message
    assert [] == gate.sizes


def test_deadline_that_passes_in_the_queue_is_never_run(small_server, small):
    """Rows whose deadline has passed are dropped before they run."""
    with held(small_server, "synthesis", "plain") as gate:
        first = small.Generate.future(ONE)
        gate.wait_for(batches=1)
        error = refusal(small.Generate, ONE, timeout=0.3)
        gate.open()
        first.result()
        small.Generate(ONE)

    assert errors.DeadlineError is type(error)
    assert [1, 1] == gate.sizes


def test_model_that_loads_is_unavailable(small_models):
    """A model that is not ready is UNAVAILABLE with a delay; others answer."""
    twin = pb.GenerateRequest(model="twin", latents=[pb.Latent(seed=1)])
    loading = loading_server(held={"twin"}, models=small_models, default_model="plain")
    with loading as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        error = refusal(stub.Generate, twin)
        images = stub.Generate(ONE).images
        server.go_on()

        assert stub.Generate(twin).images
    assert errors.ModelNotReadyError is type(error)
    assert 1.0 == error.retry_after_seconds
    assert images


def test_stopping_batcher_refuses(small_server, small):
    """Work for a server that drains is UNAVAILABLE: another one will do it."""
    with closed(small_server, "mapping", "plain"):
        error = refusal(small.Generate, ONE)

    assert errors.DrainingError is type(error)


def test_unknown_method_is_unimplemented(channel):
    """A method that does not exist is UNIMPLEMENTED."""
    caught = failure(channel.unary_unary("/stylewire.v1.StyleGanService/Paint"), b"")

    assert grpc.StatusCode.UNIMPLEMENTED == caught.code()
