"""A graph that hangs: the process says so, answers what it can, and never waits for it."""

import contextlib
import queue
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stylewire import errors, pb
from stylewire.status import from_rpc_error
from support.gates import held
from support.refusals import refusal
from support.servers import RunningServer, running_server

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])


@pytest.fixture
def server(small_models):
    """A server for which a batch of half a second hangs."""
    with running_server(models=small_models, default_model="plain", hang_seconds=0.5) as server:
        yield server


def watched(channel, name) -> "queue.Queue[int]":
    """What a Watch of a health name tells, as it comes."""
    told: queue.Queue[int] = queue.Queue()
    stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name))

    def read():
        with contextlib.suppress(grpc.RpcError):  # the channel is closed at the end
            for message in stream:
                told.put(message.status)

    threading.Thread(target=read, daemon=True).start()
    return told


def test_hung_graph_makes_health_not_serving_and_holds_nobody_else(server):
    """Alive and ready turn NOT_SERVING, waiting calls fail, new ones are refused, other RPCs and models answer.

    When the graph comes back, so does everything else.
    """
    with server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        told = {name: watched(channel, name) for name in ("", pb.STYLEGAN_SERVICE)}
        assert [SERVING, SERVING] == [each.get(timeout=30) for each in told.values()]
        with held(server, "synthesis", "plain") as gate:
            hangs = stub.Generate.future(ONE)
            gate.wait_for(batches=1)
            waits = stub.Generate.future(ONE)
            gate.wait_for(waiting_rows=1)

            assert [NOT_SERVING, NOT_SERVING] == [each.get(timeout=30) for each in told.values()]
            assert errors.BackendUnavailableError is type(from_rpc_error(waits.exception(timeout=30)))
            refused = refusal(stub.Generate, ONE)
            assert errors.BackendUnavailableError is type(refused)
            assert "plain.synthesis hangs" in refused.message
            assert stub.Generate(pb.GenerateRequest(model="twin", latents=ONE.latents), timeout=30).images
            assert pb.ModelServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=30).models

        assert hangs.result(timeout=30).images
        assert [SERVING, SERVING] == [each.get(timeout=30) for each in told.values()]
        assert stub.Generate(ONE).images


def test_server_stops_although_a_graph_hangs(small_models):
    """Stopping does not wait for a graph that never ends: it says so and goes on."""
    running = RunningServer(models=small_models, default_model="plain", grace_seconds=0.1, hang_seconds=0.2)
    with running.channel() as channel, held(running, "synthesis", "plain") as gate:
        call = pb.StyleGanServiceStub(channel).Generate.future(ONE)
        gate.wait_for(batches=1)
        with pytest.raises(errors.BackendUnavailableError, match="still runs"):
            running.call(running.app.stop(0))
        assert call.exception(timeout=30)
    running.end_loop()
