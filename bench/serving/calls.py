"""Load from Python: gRPC calls at a given rate or one after the other, with what became of each."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from stylewire import pb
from stylewire.calls import generate_request

GENERATE = f"/{pb.STYLEGAN_SERVICE}/Generate"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that ended.

    Attributes:
        code: its status.
        seconds: how long it took.
        asked: images that it asked for.
    """

    code: grpc.StatusCode
    seconds: float
    asked: int = 1


def generate_body(seeds: Sequence[int] = (0,), image_format: str = "jpeg") -> bytes:
    """The bytes of a Generate request."""
    return generate_request(list(seeds), format=image_format).SerializeToString()


async def _call(channel: grpc.aio.Channel, body: bytes, asked: int, deadline_seconds: float | None) -> Call:
    started = time.perf_counter()
    try:
        await channel.unary_unary(GENERATE)(body, timeout=deadline_seconds)
        code = grpc.StatusCode.OK
    except grpc.aio.AioRpcError as err:
        code = err.code()
    return Call(code, time.perf_counter() - started, asked)


def at_rate(port: int, rate: float, seconds: float, deadline_seconds: float) -> list[Call]:
    """Send single-image calls at random moments, so many a second on average, whatever becomes of them."""

    async def play() -> list[Call]:
        moments = random.Random(0)  # noqa: S311 - the same load every time
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
            body, tasks = generate_body(), []
            started = due = time.perf_counter()
            while due < started + seconds:
                due += moments.expovariate(rate)
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                tasks.append(asyncio.create_task(_call(channel, body, 1, deadline_seconds)))
            return await asyncio.gather(*tasks)

    return asyncio.run(play())


def in_turn(port: int, seconds: float, clients: Sequence[int]) -> list[Call]:
    """Let clients call one after the other, each for as many images as its number says, without pause."""

    async def play() -> list[Call]:
        ended: list[Call] = []
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
            until = time.perf_counter() + seconds

            async def client(images: int) -> None:
                body = generate_body(range(images))
                while time.perf_counter() < until:
                    ended.append(await _call(channel, body, images, None))

            await asyncio.gather(*map(client, clients))
        return ended

    return asyncio.run(play())
