"""The SDK with several addresses: it watches their health, and calls those that serve."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from stylewire import AsyncClient, Client, UnreachableError, pb
from stylewire.testing import FakeServer
from support.fake_service import fake_server

CALLS = 10


@contextlib.contextmanager
def server_in_state(state):
    """Run a server of which health is known; gives its fake and its health."""
    fake, servicer = FakeServer(), health.HealthServicer()
    servicer.set(pb.STYLEGAN_SERVICE, state)
    with ThreadPoolExecutor(10) as threads:
        server = grpc.server(threads)
        pb.add_StyleGanServiceServicer_to_server(fake, server)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield fake
        finally:
            server.stop(None).wait()


@pytest.fixture
def serving():
    with server_in_state(health_pb2.HealthCheckResponse.SERVING) as server:
        yield server


@pytest.fixture
def stopping():
    with server_in_state(health_pb2.HealthCheckResponse.NOT_SERVING) as server:
        yield server


def test_server_that_does_not_serve_gets_no_call(serving, stopping):
    """Of two servers, the one that says NOT_SERVING is passed over."""
    with Client(f"ipv4:{stopping.address},{serving.address}") as client:
        for seed in range(CALLS):
            client.generate(seed)

    assert (0, CALLS) == (len(stopping.requests), len(serving.requests))


def test_async_client_passes_over_a_server_that_does_not_serve(serving, stopping):
    """The same for asyncio."""

    async def story():
        async with AsyncClient(f"ipv4:{stopping.address},{serving.address}") as client:
            await asyncio.gather(*map(client.generate, range(CALLS)))

    asyncio.run(story())

    assert (0, CALLS) == (len(stopping.requests), len(serving.requests))


def test_no_server_that_serves_is_an_error_to_try_again(stopping):
    """Where all say NOT_SERVING a call ends in UnreachableError."""
    with Client(f"ipv4:{stopping.address}") as client, pytest.raises(UnreachableError):
        client.generate(1)


def test_single_server_speaks_for_itself(stopping):
    """An address without a scheme is called whatever its health, so that its own refusal is what callers read."""
    with Client(stopping.address) as client:
        client.generate(1)

    assert 1 == len(stopping.requests)


def test_server_without_health_is_called():
    """One that has no health service, such as a proxy, counts as healthy."""
    with fake_server() as server, Client(f"ipv4:{server.address}") as client:
        client.generate(1)

        assert 1 == len(server.requests)
