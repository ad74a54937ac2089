"""Health: what load balancers and Kubernetes ask."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stylewire import pb
from stylewire.errors import ModelNotReadyError
from stylewire.status import from_rpc_error
from support.refusals import failure
from support.scrape import wait_for
from support.servers import loading_server, running_server

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NAMES = ["", "stylewire.v1.StyleGanService"]


def asked(name) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=name)


@pytest.mark.parametrize("name", NAMES)
def test_server_is_healthy(channel, name):
    """Alive and ready are both SERVING on a loaded server."""
    assert SERVING == health_pb2_grpc.HealthStub(channel).Check(asked(name)).status


def test_unknown_name_is_not_found(channel):
    """A name that is neither alive nor ready is NOT_FOUND, so that typing errors in a probe show."""
    caught = failure(health_pb2_grpc.HealthStub(channel).Check, asked("nobody"))

    assert grpc.StatusCode.NOT_FOUND == caught.code()


@pytest.fixture
def loading(small_models):
    with loading_server(models=small_models, default_model="plain") as server:
        yield server


def test_server_is_alive_but_not_ready_while_models_load(loading):
    """While models load, alive is SERVING, ready is not, and calls are UNAVAILABLE; then Watch tells of the change."""
    with loading.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        alive, ready = (health.Check(asked(name)).status for name in NAMES)
        caught = failure(pb.StyleGanServiceStub(channel).Generate, pb.GenerateRequest(latents=[pb.Latent(seed=1)]))
        (model,) = (
            m for m in pb.ModelServiceStub(channel).ListModels(pb.ListModelsRequest()).models if m.default_model
        )
        watch = health.Watch(asked(NAMES[1]))
        seen = [next(watch).status]
        loading.go_on()
        seen.append(next(watch).status)
        watch.cancel()

    assert (SERVING, NOT_SERVING) == (alive, ready)
    assert ModelNotReadyError is type(from_rpc_error(caught))
    assert pb.Model.STATE_LOADING == model.state
    assert [NOT_SERVING, SERVING] == seen


def test_watchers_are_told_that_the_server_stops(small_models):
    """Every Watch stream sees NOT_SERVING before the server closes, also when another watcher has left before."""
    with running_server(models=small_models, default_model="plain") as server:
        channels = [grpc.insecure_channel(server.address) for _ in range(3)]
        watches = {}
        for index, channel in enumerate(channels):
            for name in NAMES:
                watches[index, name] = health_pb2_grpc.HealthStub(channel).Watch(asked(name))
        first = {key: next(watch).status for key, watch in watches.items()}
        for name in NAMES:
            watches.pop((0, name)).cancel()
        _wait_until_left(server)
        server.call(server.app.health.enter_graceful_shutdown())
        last = {key: next(watch).status for key, watch in watches.items()}
        for channel in channels:
            channel.close()

    assert {SERVING} == set(first.values())
    assert {NOT_SERVING} == set(last.values())


def _wait_until_left(server):
    left = {"grpc_method": "Watch", "grpc_code": "CANCELLED"}
    wait_for(server.metrics_url, lambda s: s.count("grpc_server_handled_total", **left) == len(NAMES))
