"""What a call of the SDK takes over the same call by the bare stub, pair by pair, on a server that does nothing."""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

import grpc
import grpc.aio

from stylewire import AsyncClient, Client, Security, pb
from stylewire.client.requests import generate_request
from stylewire.testing.launcher import with_default_signals
from tables import Table

_SERVE = """
import sys
from stylewire.testing import FakeServer
with FakeServer() as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""
TABLE = Table("way to call:<20", "stub ms:>", "SDK ms:>", "over ms:>", indent="  ")
_WARM_UP = 100
_OPTIONS = {"psi": 0.7, "format": "pixels", "return_codes": True}


@contextlib.contextmanager
def fake_server() -> Iterator[str]:
    """Run a fake server in a process of its own; return its address."""
    with subprocess.Popen(
        with_default_signals([sys.executable, "-c", _SERVE]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin
        assert child.stdout
        yield child.stdout.readline().strip()
        child.stdin.close()


def report(calls: int) -> bool:
    """Print a line for each way to call; return whether none takes more than 0.5 ms over the stub."""
    request = generate_request(7, psi=0.7, format="pixels", return_codes=True)
    print(f"\nSDK over the bare stub, {calls} interleaved pairs of Generate with one picture and its code")
    TABLE.print_headings()
    with fake_server() as address:
        over = [_sync(address, request, calls, None), _sync(address, request, calls, Security(token="0" * 40))]
        over.append(asyncio.run(_async(address, request, calls)))
    return max(over) <= 0.5


def _sync(address: str, request: pb.GenerateRequest, calls: int, security: Security | None) -> float:
    with grpc.insecure_channel(address) as channel, Client(address, security=security) as client:
        stub = pb.StyleGanServiceStub(channel)

        def bare() -> object:
            return stub.Generate(request, timeout=60)

        def ours() -> object:
            return client.generate(7, **_OPTIONS)

        pairs = [_pair(number, bare, ours) for number in range(calls + _WARM_UP)][_WARM_UP:]
    return _print("Client with a token" if security else "Client", pairs)


async def _async(address: str, request: pb.GenerateRequest, calls: int) -> float:
    async with grpc.aio.insecure_channel(address) as channel, AsyncClient(address) as client:
        stub = pb.StyleGanServiceStub(channel)

        async def bare() -> object:
            return await stub.Generate(request, timeout=60)

        async def ours() -> object:
            return await client.generate(7, **_OPTIONS)

        pairs = [await _async_pair(number, bare, ours) for number in range(calls + _WARM_UP)][_WARM_UP:]
    return _print("AsyncClient", pairs)


def _pair(number: int, bare: Callable[[], object], ours: Callable[[], object]) -> tuple[float, float]:
    seconds = {}
    for each in (bare, ours) if number % 2 else (ours, bare):
        started = time.perf_counter()
        each()
        seconds[each] = time.perf_counter() - started
    return seconds[bare], seconds[ours]


async def _async_pair(
    number: int, bare: Callable[[], Awaitable[object]], ours: Callable[[], Awaitable[object]]
) -> tuple[float, float]:
    seconds = {}
    for each in (bare, ours) if number % 2 else (ours, bare):
        started = time.perf_counter()
        await each()
        seconds[each] = time.perf_counter() - started
    return seconds[bare], seconds[ours]


def _print(name: str, pairs: list[tuple[float, float]]) -> float:
    """Print medians in milliseconds; return the median of the differences."""
    bare, ours = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
    over = statistics.median(other - one for one, other in pairs) * 1e3
    TABLE.print_row(name, f"{bare:.3f}", f"{ours:.3f}", f"{over:+.3f}")
    return over
