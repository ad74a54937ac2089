"""A server that is killed: its clients get an error that says to try again, and no file is half written."""

import asyncio
import subprocess
import sys

import grpc
import pytest

from stylewire import AsyncClient, Client, UnreachableError
from stylewire.demo import MODELS
from stylewire.errors import RetryableError, from_rpc_error
from support.scrape import wait_for
from support.servers import ServerProcess

MANY = list(range(64))


@pytest.fixture
def server():
    """A server of one model, to be killed."""
    server = ServerProcess("--max-queue-seconds", "600", models=MODELS / "pixels")
    yield server
    server.kill()


def wait_for_calls(server, method, count=1):
    wait_for(server.metrics_url, lambda scrape: scrape.count("grpc_server_started_total", grpc_method=method) >= count)


def test_killed_server_gives_waiting_calls_a_retryable_error(server):
    """Calls without an answer raise UnreachableError, each of them."""

    async def story():
        async with AsyncClient(server.address) as client:
            calls = [asyncio.create_task(client.generate(MANY)) for _ in range(50)]
            await asyncio.to_thread(wait_for_calls, server, "Generate", len(calls))
            server.process.kill()
            return await asyncio.gather(*calls, return_exceptions=True)

    ended = asyncio.run(story())
    lost = [type(each) for each in ended if isinstance(each, Exception)]

    assert [UnreachableError] * len(lost) == lost
    assert lost


def test_killed_server_gives_streams_a_retryable_error(server):
    """A stream that has begun gives the frames that came, then raises UnreachableError."""
    with Client(server.address) as client:
        stream = client.interpolate([1, 2], 3600, format="tensor")
        frames = [next(stream) for _ in range(2)]
        server.process.kill()
        with pytest.raises(UnreachableError) as caught:
            frames.extend(stream)

    assert list(range(len(frames))) == [frame.index for frame in frames]
    assert server.address in caught.value.message


def test_killed_server_gives_async_streams_a_retryable_error(server):
    """The same for asyncio."""

    async def story():
        async with AsyncClient(server.address) as client:
            async for _ in client.interpolate([1, 2], 3600, format="tensor"):
                server.process.kill()

    with pytest.raises(UnreachableError):
        asyncio.run(story())


COMMANDS = {
    "animation": ["interpolate", "--seeds", "1,2", "--frames", "3600", "--out", "walk.gif"],
    "files and sheet": ["generate", "--seeds", "0-20000", "--out", "faces", "--grid", "sheet.png"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_whose_server_is_killed_leaves_no_half_file(server, tmp_path, name):
    """The command ends with one sentence and exit code 1, and nothing is written."""
    command = [sys.executable, "-m", "stylewire", *COMMANDS[name], "--address", server.address]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_calls(server, COMMANDS[name][0].capitalize())
        server.process.kill()
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.communicate()

    assert 1 == process.returncode
    assert said.startswith(f"error: no server answers at {server.address}: "), said
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


class CancelledByPeer(grpc.RpcError):
    """What grpc raises when the server's gRPC closed before the call got in."""

    def code(self):
        return grpc.StatusCode.CANCELLED

    def details(self):
        return "CANCELLED"

    def trailing_metadata(self):
        return ()


def test_call_that_a_closing_server_dropped_may_be_tried_again():
    """CANCELLED that this side did not ask for is retryable, not a bug of the server."""
    assert isinstance(from_rpc_error(CancelledByPeer()), RetryableError)
