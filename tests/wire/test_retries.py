"""When the SDK makes a call again, against a server that counts."""

import asyncio
import json
import time

import pytest

from stylewire import (
    AsyncClient,
    DrainingError,
    ModelNotFoundError,
    OverloadedError,
    RateLimitedError,
    pb,
)
from stylewire.client.connection import channel_options
from support.fake_service import asked, fake_server


async def walk(client):
    return [frame async for frame in client.interpolate([1, 2], 1)]


ASKING = {
    "one answer": lambda client: client.generate(1),
    "stream": lambda client: list(client.interpolate([1, 2], 1)),
}


@pytest.mark.parametrize("asking", ASKING)
def test_unavailable_is_tried_again(server, client, asking):
    """A server that drains is asked again, up to 4 times, and the caller notices nothing."""
    server.failures += [DrainingError("draining")] * 3

    assert 1 == len(ASKING[asking](client))
    assert 4 == len(server.requests)


@pytest.mark.parametrize("photo_bytes", [100_000, 1_500_000, 12_000_000])
def test_large_requests_are_retried_too(server, client, photo_bytes):
    """A photo of any size that may be sent is sent again; by default gRPC forgets what is over 256 KiB."""
    server.failures += [DrainingError("draining")] * 2
    client.invert(bytes(photo_bytes))

    assert 3 == len(server.requests)


def test_retry_policy_of_grpc_leaves_streams_out():
    """With one, a stream whose server is killed before its first frame hangs beyond its deadline (grpc issue 41036)."""
    config = json.loads(dict(channel_options("localhost:1"))["grpc.service_config"])
    (policy,) = config["methodConfig"]
    streams = {
        method.name
        for method in pb.STYLEGAN_SERVICE_FILE.services_by_name["StyleGanService"].methods
        if method.server_streaming
    }

    assert {"Interpolate", "Project"} == streams
    assert not streams & {
        each.get("method", "Interpolate") for each in policy["name"] if each["service"] == pb.STYLEGAN_SERVICE
    }


@pytest.mark.parametrize("asking", ASKING)
def test_unavailable_is_not_tried_for_ever(server, client, asking):
    """After 4 attempts the error is the caller's."""
    server.failures += [DrainingError("draining")] * 9
    with pytest.raises(DrainingError):
        ASKING[asking](client)

    assert 4 == len(server.requests)


def test_async_stream_is_tried_again(server):
    """AsyncClient asks for a stream again, and not for ever."""
    server.failures += [DrainingError("draining")] * 7

    with pytest.raises(DrainingError):
        asked(server, walk)
    assert 1 == len(asked(server, walk))
    assert 8 == len(server.requests)


def test_stream_that_would_be_too_late_is_not_tried_again(server, client):
    """The deadline holds for all attempts together."""
    server.failures += [DrainingError("draining")] * 9
    with pytest.raises(DrainingError):
        list(client.interpolate([1, 2], 1, timeout=0.3))

    assert len(server.requests) < 4


@pytest.mark.parametrize("error", [OverloadedError, RateLimitedError])
@pytest.mark.parametrize("asking", ASKING)
def test_full_server_is_asked_again_when_it_says(server, client, asking, error):
    """Overload with a time to come back is waited for, in calls of one answer and in streams."""
    server.fail_next(error("full", retry_after_seconds=0.3))
    start = time.monotonic()

    assert 1 == len(ASKING[asking](client))
    assert 2 == len(server.requests)
    assert time.monotonic() - start >= 0.3


def test_async_client_waits_as_long(server):
    """AsyncClient waits for a full server as Client does."""
    for ask in (lambda client: client.generate(1), walk):
        server.fail_next(OverloadedError("full", retry_after_seconds=0.2))
        start = time.monotonic()

        assert 1 == len(asked(server, ask))
        assert time.monotonic() - start >= 0.2


def test_full_server_is_not_asked_for_ever(server, client):
    """After 4 attempts the refusal is the caller's."""
    server.fail_next(*[OverloadedError("full", retry_after_seconds=0.01)] * 9)
    with pytest.raises(OverloadedError):
        client.generate(1)

    assert 4 == len(server.requests)


@pytest.mark.parametrize("seconds", [None, 3600, -1], ids=["no time", "after the deadline", "never"])
@pytest.mark.parametrize("error", [OverloadedError, RateLimitedError])
@pytest.mark.parametrize("asking", ASKING)
def test_overload_is_not_tried_blindly(server, client, asking, error, seconds):
    """Without a time, with one beyond the deadline, and with gRPC's word for never, a refusal is told at once."""
    server.fail_next(error("full", retry_after_seconds=seconds))
    with pytest.raises(error) as caught:
        ASKING[asking](client)

    assert 1 == len(server.requests)
    assert caught.value.retry_after_seconds == (0 if seconds == -1 else seconds)


@pytest.mark.parametrize("asking", ASKING)
def test_other_errors_are_not_tried_again(server, client, asking):
    """What would fail again is not repeated."""
    server.fail_next(ModelNotFoundError("no"))
    with pytest.raises(ModelNotFoundError):
        ASKING[asking](client)

    assert 1 == len(server.requests)


def test_retries_stop_where_everything_fails():
    """When hundreds of calls fail and none succeeds, calls are no longer tried again (retryThrottling)."""
    many = 300

    async def storm(address):
        async with AsyncClient(address) as client:
            await asyncio.gather(*(client.generate(1) for _ in range(many)), return_exceptions=True)
            attempts = len(server.requests)
            with pytest.raises(DrainingError):
                await client.generate(1)
            return attempts

    # A name of its own: gRPC counts failures by address, and another test may get the same port.
    with fake_server() as server:
        named = f"localhost:{server.address.rpartition(':')[2]}"
        server.fail_next(*[DrainingError("draining")] * 4 * many)
        attempts = asyncio.run(storm(named))

        assert many < attempts < 4 * many
        assert attempts + 1 == len(server.requests)
