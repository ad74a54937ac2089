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
from PIL import Image

from stylewire import AsyncClient, Client, UnreachableError
from stylewire.demo import MODELS
from stylewire.errors import RetryableError
from stylewire.status import from_rpc_error
from support import http2_frames as frames
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


def test_killed_server_gives_every_caller_a_retryable_error(server):
    """Calls that wait and streams that have begun raise UnreachableError, of both clients; frames that came count."""

    async def walk(client):
        async for _ in client.interpolate([1, 2], 3600, format="tensor"):
            pass

    async def story():
        async with AsyncClient(server.address, timeout=600) as client:  # else the server refuses the last of them
            calls = [asyncio.create_task(client.generate(MANY)) for _ in range(50)]
            calls += [asyncio.create_task(walk(client)) for _ in range(5)]
            await asyncio.to_thread(wait_for_calls, server, "Generate", 50)
            server.process.kill()
            return await asyncio.gather(*calls, return_exceptions=True)

    with Client(server.address) as client:
        stream = client.interpolate([1, 2], 3600, format="tensor")
        came = [next(stream) for _ in range(2)]
        ended = asyncio.run(story())
        with pytest.raises(UnreachableError) as caught:
            came.extend(stream)
    lost = [type(each) for each in ended if not isinstance(each, list)]

    assert [UnreachableError] * len(lost) == lost
    assert len(lost) > 5
    assert list(range(len(came))) == [frame.index for frame in came]
    assert server.address in caught.value.message


COMMANDS = [
    ["interpolate", "--seeds", "1,2", "--frames", "3600", "--out", "walk.gif"],
    ["generate", "--seeds", "0-20000", "--out", "faces", "--grid", "sheet.png"],
]


def test_command_whose_server_is_killed_leaves_no_half_file(server, tmp_path):
    """Commands end with one sentence and the exit code for what may work later; no file is half written."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "stylewire", *command, "--address", server.address],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in COMMANDS
    ]
    for method in ("Interpolate", "Generate"):
        wait_for_calls(server, method)
    server.process.kill()
    try:
        said = [each.communicate(timeout=120)[1] for each in started]
    finally:
        for each in started:
            each.kill()

    assert [3, 3] == [each.returncode for each in started]
    assert all(text.startswith(f"error: no server answers at {server.address}: ") for text in said), said
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [path for path in files if path.parent.name == "faces" and path.suffix == ".png"]
    for path in files:
        with Image.open(path) as picture:
            picture.load()


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
