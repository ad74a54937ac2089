"""A server that is killed: its clients get an error that says to try again, and no file is half written."""

import asyncio
import contextlib
import queue
import socket
import subprocess
import sys
import threading

import grpc
import pytest
from serving import frames

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
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_for_calls(server, COMMANDS[name][0].capitalize())
        server.process.kill()
        said = process.communicate(timeout=60)[1]

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


@contextlib.contextmanager
def server_that_dies():
    """Take one connection, read what comes until a call has come, and be gone, as a process that is killed is."""

    def serve(listener):
        connection, _ = listener.accept()
        listener.close()
        with connection:
            connection.settimeout(0.3)
            connection.sendall(
                frames.frame(frames.SETTINGS, 0, 0, b"") + frames.frame(frames.SETTINGS, frames.ACK, 0, b"")
            )
            with contextlib.suppress(TimeoutError):
                while connection.recv(1 << 16):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_stream_whose_server_dies_before_the_first_frame_ends():
    """The reader hears of it; gRPC's own retries would lose the end of the last attempt, and it would wait for ever."""
    ended = queue.SimpleQueue()

    def read(address):
        with Client(address) as client:
            try:
                ended.put(list(client.interpolate([1, 2], 3600, timeout=30)))
            except UnreachableError as err:
                ended.put(err)

    with server_that_dies() as address:
        threading.Thread(target=read, args=(address,), daemon=True).start()

        assert isinstance(ended.get(timeout=60), UnreachableError)
