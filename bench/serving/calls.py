"""Load from Python: gRPC calls one after the other, with what became of each."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from stylewire import pb
from stylewire.client.requests import generate_request

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


async def _call(channel: grpc.aio.Channel, body: bytes, asked: int) -> Call:
    started = time.perf_counter()
    try:
        await channel.unary_unary(GENERATE)(body)
        code = grpc.StatusCode.OK
    except grpc.aio.AioRpcError as err:
        code = err.code()
    return Call(code, time.perf_counter() - started, asked)


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
                    ended.append(await _call(channel, body, images))

            await asyncio.gather(*map(client, clients))
        return ended

    return asyncio.run(play())
