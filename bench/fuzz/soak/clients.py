"""Clients of all characters, good and bad, that call until they are stopped."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from random import Random
from typing import TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from stylewire import pb
from support import bad_clients
from support.fuzz import messages
from support.fuzz.inputs import Input, numbered

_TIMEOUT_SECONDS = 30.0
_OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
_NARROW = [*_OWN, ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
_Character: TypeAlias = Callable[["Clients"], Awaitable[None]]


class Clients:
    """The clients of one server.

    Attributes:
        calls: how many calls of each character ended with each status.
    """

    def __init__(self, address: str, seed: int) -> None:
        self.address, self.random, self.numbers = address, Random(seed), count()  # noqa: S311 - the same every time
        self.calls: Counter[tuple[str, str]] = Counter()
        self.channel = grpc.aio.insecure_channel(address, _OWN)
        self._stopped = asyncio.Event()

    async def play(self) -> None:
        """Call until ``stop``."""
        async with asyncio.TaskGroup() as group:
            for character, size in _CHARACTERS.items():
                for _ in range(size):
                    group.create_task(self._live(character))
        await self.channel.close()

    def stop(self) -> None:
        """Let every client end its call."""
        self._stopped.set()

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than the clients run."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def _live(self, character: _Character) -> None:
        while not self._stopped.is_set():
            code = "OK"
            try:
                await character(self)
            except grpc.aio.AioRpcError as err:
                code = err.code().name
            except asyncio.CancelledError:
                code = "left"
            self.calls[character.__name__, code] += 1
            await self.pause(self.random.uniform(0, 0.02))


def _path(given: Input) -> str:
    service = pb.MODEL_SERVICE if "Model" in given.method else pb.STYLEGAN_SERVICE
    return f"/{service}/{given.method}"


def _valid(clients: Clients) -> Input:
    method, message = messages.valid(clients.random)
    return Input("valid", method, message.SerializeToString())


async def _call(channel: grpc.aio.Channel, given: Input, timeout: float = _TIMEOUT_SECONDS) -> None:  # noqa: ASYNC109 - it travels
    """Make a call and read the whole response."""
    if given.method != "Interpolate":
        await channel.unary_unary(_path(given))(given.content, timeout=timeout)
        return
    async for _ in channel.unary_stream(_path(given))(given.content, timeout=timeout):
        pass


async def calls(clients: Clients) -> None:
    """Ask for something and wait for it."""
    await _call(clients.channel, _valid(clients))


async def cancels(clients: Clients) -> None:
    """Leave soon after asking."""
    call = asyncio.create_task(_call(clients.channel, _valid(clients)))
    await asyncio.wait([call], timeout=clients.random.uniform(0, 0.06))
    call.cancel()
    await call


async def deadlines(clients: Clients) -> None:
    """Return no time."""
    await _call(clients.channel, _valid(clients), clients.random.uniform(0.001, 0.1))


async def wrong(clients: Clients) -> None:
    """Send what ``make bench-fuzz`` sends."""
    await _call(clients.channel, numbered(3, next(clients.numbers)))


async def slow_readers(clients: Clients) -> None:
    """Take frames one after the other with long pauses, and leave in the middle."""
    tensor = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
    walk = pb.InterpolateRequest(keyframes=[pb.Latent(seed=1)] * 2, frame_count=900, output_config=tensor)
    async with grpc.aio.insecure_channel(clients.address, _NARROW) as channel:
        stream = pb.StyleGanServiceStub(channel).Interpolate(walk)
        for _ in range(clients.random.randint(5, 25)):
            await stream.read()
            await clients.pause(0.2)
        stream.cancel()


async def connections(clients: Clients) -> None:
    """Open a connection for a single call."""
    async with grpc.aio.insecure_channel(clients.address, _OWN) as channel:
        await _call(channel, _valid(clients))


async def breaks_off(clients: Clients) -> None:
    """Leave at some point of the protocol."""
    beginning = clients.random.choice(list(bad_clients.BEGINNINGS.values()))
    await asyncio.to_thread(bad_clients.break_off, clients.address, beginning, rudely=clients.random.random() < 0.5)


async def watches(clients: Clients) -> None:
    """Watch health for a while."""
    async with grpc.aio.insecure_channel(clients.address, _OWN) as channel:
        stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=pb.STYLEGAN_SERVICE))
        await stream.read()
        await clients.pause(clients.random.uniform(0.1, 2))
        stream.cancel()


async def reflects(clients: Clients) -> None:
    """Ask what there is."""
    stream = reflection_pb2_grpc.ServerReflectionStub(clients.channel).ServerReflectionInfo()
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    await stream.read()
    await stream.done_writing()
    await clients.pause(0.2)


_CHARACTERS: dict[_Character, int] = {
    calls: 6,
    cancels: 3,
    deadlines: 2,
    wrong: 2,
    slow_readers: 3,
    connections: 2,
    breaks_off: 2,
    watches: 3,
    reflects: 1,
}
"""How many clients of each there are."""
EXPECTED = {
    "calls": {"OK"},
    "cancels": {"OK", "left"},
    "deadlines": {"OK", "DEADLINE_EXCEEDED"},
    "wrong": {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"},
    "slow_readers": {"OK"},
    "connections": {"OK"},
    "breaks_off": {"OK"},
    "watches": {"OK"},
    "reflects": {"OK"},
}
"""What each may get. An overloaded server may also say so to anybody."""
OVERLOADED = {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
