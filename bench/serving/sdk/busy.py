"""How busy ``generate_many`` keeps a server: its pictures a second over those of many callers at once."""

import asyncio
import itertools
import statistics
import time
from pathlib import Path

import grpc.aio

from serving.process import Server, serving
from stylewire import Client, pb
from stylewire.client.connection import channel_options
from stylewire.client.requests import generate_request
from tables import Table

TABLE = Table("images/s:>", "callers':>", "ratio:>5", "networks busy:>", "callers':>", "ratio:>5", indent="  ")
_CALLERS = 8
_LATENTS = 4
"""Of the calls of the load that it is compared with: 32 latents in flight, which fill every instance of the server."""
_PATIENT = ("--max-queue-seconds", "60")


def report(models: Path, backend: str, rounds: int, seconds: float) -> bool:
    """Print pictures a second of both, round by round; return whether it keeps the networks as busy."""
    numbers = itertools.count()
    with serving(models, "--backend", backend, *_PATIENT) as server:
        name = Client(server.address).model().name
        print(f"\ngenerate_many over {_CALLERS} bare callers of {_LATENTS} latents: {name}, {backend}, JPEG")
        TABLE.print_headings()
        for load in (_many, _flood):
            load(server, numbers, 1.0)
        rounds_of = [_round(server, numbers, seconds, number) for number in range(rounds)]
    pictures, busy = (statistics.median(column) for column in zip(*rounds_of, strict=True))
    print(f"  median: {pictures:.3f} of the pictures, {busy:.3f} of the time in networks")
    return busy >= 0.95


def _round(server: Server, numbers: "itertools.count[int]", seconds: float, number: int) -> tuple[float, float]:
    order = (_many, _flood) if number % 2 else (_flood, _many)
    rates = {load: load(server, numbers, seconds) for load in order}
    (ours, running), (flood, flooded) = rates[_many], rates[_flood]
    speeds = (f"{ours:.1f}", f"{flood:.1f}", f"{ours / flood:.3f}")
    TABLE.print_row(*speeds, f"{running:.2f}", f"{flooded:.2f}", f"{running / flooded:.3f}")
    return ours / flood, running / flooded


def _many(server: Server, numbers: "itertools.count[int]", seconds: float) -> tuple[float, float]:
    before, started = _run_seconds(server), time.perf_counter()
    due = itertools.takewhile(lambda _: time.perf_counter() - started < seconds, numbers)
    with Client(server.address) as client:
        done = sum(1 for _ in client.generate_many(due, format="jpeg"))
    spent = time.perf_counter() - started
    return done / spent, (_run_seconds(server) - before) / spent


def _flood(server: Server, numbers: "itertools.count[int]", seconds: float) -> tuple[float, float]:
    return asyncio.run(_flooded(server, numbers, seconds))


async def _flooded(server: Server, numbers: "itertools.count[int]", seconds: float) -> tuple[float, float]:
    address = server.address
    before, started, done = _run_seconds(server), time.perf_counter(), 0
    async with grpc.aio.insecure_channel(address, options=channel_options(address)) as channel:
        stub = pb.StyleGanServiceStub(channel)

        async def call() -> None:
            nonlocal done
            while time.perf_counter() - started < seconds:
                request = generate_request(itertools.islice(numbers, _LATENTS), format="jpeg")
                made = len((await stub.Generate(request, timeout=60)).images)
                done += made  # not in one line: it would add to what it was before the call

        await asyncio.gather(*(call() for _ in range(_CALLERS)))
    spent = time.perf_counter() - started
    return done / spent, (_run_seconds(server) - before) / spent


def _run_seconds(server: Server) -> float:
    return server.metric("stylewire_batch_run_seconds_sum", graph="synthesis")
