"""A share of the inputs over real gRPC, to a real server with real networks, many at once."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator

import grpc

from fuzz.report import Report
from serving.process import Server
from stylewire import pb
from support.fuzz.inputs import Input, numbered

_AT_ONCE = 16
_TIMEOUT_SECONDS = 20.0
_FRAMES = 3
_BUGS = frozenset({"INTERNAL", "UNKNOWN"})
_IDS = ("", "abc", "x" * 200, "a b", "%n%s", "~", "../..")


def send(server: Server, seed: int, count: int) -> Report:
    """Send inputs 0 to ``count`` of a seed; streams are left after some frames."""
    report = Report()

    async def play() -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(server.address, options) as channel:
            numbers = iter(range(count))
            await asyncio.gather(*(_client(channel, seed, numbers, report) for _ in range(_AT_ONCE)))

    report.memory.append((0, server.resident_bytes()))
    asyncio.run(play())
    report.memory.append((count, server.resident_bytes()))
    return report


async def _client(channel: grpc.aio.Channel, seed: int, numbers: Iterator[int], report: Report) -> None:
    for number in numbers:
        given = numbered(seed, number)
        started = time.monotonic()
        code, details = await _call(channel, given, random.Random(number))  # noqa: S311 - the same every time
        finding = f"{code}: {details}" if code in _BUGS else ""
        report.add(number, given.kind, code, time.monotonic() - started, finding)


async def _call(channel: grpc.aio.Channel, given: Input, choices: random.Random) -> tuple[str, str]:
    service = pb.MODEL_SERVICE if "Model" in given.method else pb.STYLEGAN_SERVICE
    path = f"/{service}/{given.method}"
    options = {"timeout": _TIMEOUT_SECONDS, "metadata": (("x-request-id", choices.choice(_IDS)),)}
    try:
        if given.method in ("Interpolate", "Project"):
            stream = channel.unary_stream(path)(given.content, **options)
            for _ in range(_FRAMES):
                if await stream.read() is grpc.aio.EOF:
                    break
            stream.cancel()
        else:
            await channel.unary_unary(path)(given.content, **options)
    except grpc.aio.AioRpcError as err:
        return err.code().name, err.details() or ""
    return "OK", ""


def codes(report: Report) -> Counter[str]:
    """Count the answers by status."""
    found: Counter[str] = Counter()
    for (_, code), count in report.outcomes.items():
        found[code] += count
    return found
