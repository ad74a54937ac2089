"""Limits of connections: age, streams, and reflection that can be switched off."""

from contextlib import ExitStack

import grpc
import pytest

from stylewire import Client, pb
from support.gates import held
from support.refusals import failure
from support.scrape import wait_for
from support.servers import running_server

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


@pytest.fixture(scope="module")
def plain(small_models):
    return small_models / "plain"


def test_connection_of_age_is_replaced_without_a_lost_call(plain, caplog):
    """A client whose connection is closed for its age goes on over a new one and notices nothing."""
    with running_server(models=plain, max_connection_age_seconds=0.2) as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        with caplog.at_level("INFO", "stylewire.server.front.transport.interceptor"):
            replies = 0
            while len(peers(caplog)) < 3:
                replies += len(stub.Generate(ONE).images)

    assert len([record for record in caplog.records if "method=Generate" in record.getMessage()]) == replies


def peers(caplog) -> set[str]:
    return {record.msg["peer"] for record in caplog.records if isinstance(record.msg, dict)}


def test_clients_of_one_process_have_connections_of_their_own(plain, caplog):
    """Four clients reach a server over four connections, so that its processes are all used."""
    with (
        running_server(models=plain) as server,
        caplog.at_level("INFO", "stylewire.server.front.transport.interceptor"),
        ExitStack() as stack,
    ):
        for client in [stack.enter_context(Client(server.address)) for _ in range(4)]:
            client.generate(1)

    assert 4 == len(peers(caplog))


def test_stream_outlives_the_age_of_its_connection(plain):
    """A walk that takes longer than a connection may live is finished."""
    walk = pb.InterpolateRequest(keyframes=[pb.Latent(seed=1)] * 2, frame_count=600)
    with running_server(models=plain, max_connection_age_seconds=0.05) as server, server.channel() as channel:
        assert 600 == len(list(pb.StyleGanServiceStub(channel).Interpolate(walk)))


def test_streams_of_a_connection_are_limited(plain):
    """No more calls of a connection are in flight than it may have; those that gRPC turns away may be retried."""
    with running_server(models=plain, max_concurrent_streams=3) as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        with held(server, "synthesis") as gate:
            calls = [stub.Generate.future(ONE) for _ in range(12)]
            started = wait_for(server.metrics_url, lambda s: s.count("grpc_server_started_total") >= 3)
            gate.open()
            codes = [call.code() for call in calls]

    assert 3 == started.count("grpc_server_started_total", grpc_method="Generate")
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert codes.count(grpc.StatusCode.OK) >= 3


def test_reflection_can_be_switched_off(plain):
    """Without reflection nobody is told what the server has; calls are answered."""
    with running_server(models=plain, reflection=False) as server, server.channel() as channel:
        caught = failure(channel.stream_stream(REFLECT), iter([b""]))

        assert grpc.StatusCode.UNIMPLEMENTED == caught.code()
        assert 1 == len(pb.StyleGanServiceStub(channel).Generate(ONE).images)
