"""Mixed load and bad clients for a long time: ``make bench-soak``. What a server holds must not grow, and must go.

Exit code 1 if it grows faster than the bounds below, if anything is left when everybody has gone, if a call got what it
must not get, or if the server did not end well.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from statistics import fmean

from fuzz.soak.clients import EXPECTED, OVERLOADED, Clients
from fuzz.soak.samples import Sample, slope, take
from serving.models import demo
from serving.process import Server, serving
from tables import Table

TABLE = Table("when:<8", "memory MiB:>", "at most:>", "descriptors:>", "threads:>", "tasks:>6", "in flight:>")
_MOST_GROWTH = {"memory_bytes": 64 << 20, "descriptors": 30, "threads": 10, "tasks": 30, "in_flight": 30}
"""In an hour, by the line fitted over the second half; distinct from noise only if that half grew by ``_NOISE``.

The arenas of malloc grow, ever more slowly, to what their threads ever needed at once, and keep it: over 200 s the
server's memory went from 344 to 356 MiB while what malloc had given out stayed at 286 to 290.
"""
_NOISE = {"memory_bytes": 16 << 20, "descriptors": 8, "threads": 2, "tasks": 15, "in_flight": 8}
_KEPT = {"threads": 2}
"""What may be left: gRPC's pool keeps a thread that it adds when all of it are busy."""
_CLIENT_LEFT = "ExecuteBatchError raised in core"
"""What grpc logs as an error of its own when a client leaves in the moment in which its response is sent."""
_IDLE_SECONDS = 30.0
"""How long the server has to come down to what it held before; the greeting of a connection may take 5 s."""


def main() -> int:
    """Run the soak; print what the server held and which statuses the clients got."""
    parser = argparse.ArgumentParser(prog="fuzz.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        with serving(demo().parent, "--log-level", "WARNING", "--drain-seconds", "1", log=log) as server:
            problems = asyncio.run(_soak(server, 60 * options.minutes, options.seed))
            if code := server.stop(timeout_seconds=60).code:
                problems.append(f"the server ended with exit code {code}")
        log.seek(0)
        if errors := [line for line in log if " ERROR " in line and _CLIENT_LEFT not in line]:
            problems.append(f"{len(errors)} errors in the log, the first: {errors[0].strip()}")
    for problem in problems:
        print(f"FOUND {problem}")
    return 1 if problems else 0


async def _soak(server: Server, seconds: float, seed: int) -> list[str]:
    warm_up = Clients(server.address, seed)
    await _watch(server, warm_up, min(10.0, seconds / 4), [])
    before = await _settled(server, None)
    clients, samples = Clients(server.address, seed + 1), list[Sample]()
    TABLE.print_headings()
    await _watch(server, clients, seconds, samples)
    after = await _settled(server, before)
    _print_row("before", [before])
    _print_row("after", [after])
    for character in EXPECTED:
        counts = {code: count for (name, code), count in sorted(clients.calls.items()) if name == character}
        print(f"  {character:13s}" + ", ".join(f"{count} {code.lower()}" for code, count in counts.items()))
    half = [each for each in samples if each.seconds > (samples[0].seconds + samples[-1].seconds) / 2]
    return [*_growth(half), *_rest(before, after), *_wrong_statuses(clients)]


async def _watch(server: Server, clients: Clients, seconds: float, samples: list[Sample]) -> None:
    """Let the clients call for so long; print a row a minute."""
    playing, until = asyncio.create_task(clients.play()), time.monotonic() + seconds
    minute: list[Sample] = []
    while (now := time.monotonic()) < until:
        samples.append(await asyncio.to_thread(take, server))
        minute.append(samples[-1])
        if minute[-1].seconds - minute[0].seconds > 59:
            _print_row(f"{len(samples) / 60:.0f} min", minute)
            minute = []
        await asyncio.sleep(max(0.0, now + 1 - time.monotonic()))
    clients.stop()
    await playing


async def _settled(server: Server, before: Sample | None) -> Sample:
    """Wait until everybody has gone; return what is held then."""
    until = time.monotonic() + _IDLE_SECONDS
    while True:
        await asyncio.sleep(1)
        sample = await asyncio.to_thread(take, server)
        gone = not sample.in_flight and (before is None or not _rest(before, sample))
        if (gone and (before or time.monotonic() > until - _IDLE_SECONDS / 2)) or time.monotonic() > until:
            return sample


def _growth(samples: list[Sample]) -> list[str]:
    length, problems = samples[-1].seconds - samples[0].seconds, []
    for name, bound in _MOST_GROWTH.items():
        grows = slope(samples, name)
        print(f"  {name} grow by {grows * 3600:,.0f} an hour, fitted over the last {length:.0f} s")
        if grows * 3600 > bound and grows * length > _NOISE[name]:
            problems.append(f"{name} grow by {grows * 3600:,.0f} an hour, the bound is {bound:,}")
    return problems


def _rest(before: Sample, after: Sample) -> list[str]:
    names = ("descriptors", "threads", "tasks", "in_flight")
    left = {name: getattr(after, name) - getattr(before, name) for name in names}
    return [f"{n} {name} are left when everybody has gone" for name, n in left.items() if n > _KEPT.get(name, 0)]


def _wrong_statuses(clients: Clients) -> list[str]:
    return [
        f"{count} of {character} got {code}"
        for (character, code), count in clients.calls.items()
        if code not in EXPECTED[character] | OVERLOADED
    ]


def _print_row(name: str, samples: list[Sample]) -> None:
    memory = [each.memory_bytes / 2**20 for each in samples]
    counts = (fmean(getattr(each, n) for each in samples) for n in ("descriptors", "threads", "tasks", "in_flight"))
    TABLE.print_row(name, *(f"{each:.1f}" for each in (fmean(memory), max(memory), *counts)))


if __name__ == "__main__":
    sys.exit(main())
