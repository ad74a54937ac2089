"""Hostile requests by the hundred thousand: ``make bench-fuzz``. A benchmark is never a test; the tests run a few."""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from fuzz import processes, wire
from fuzz.report import Report, memory_line
from serving.models import demo
from serving.process import serving
from support.fuzz.inputs import numbered
from support.fuzz.target import Target
from tables import Table

_FOLDER = Path("build/fuzz")


def main() -> int:
    """Run the inputs, print what became of them; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=200_000, help="inputs in process")
    parser.add_argument("--wire", type=int, default=4_000, help="of these, so many also over gRPC to a real server")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other inputs")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--replay", type=int, metavar="NUMBER", help="run one input again and show it")
    options = parser.parse_args()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    if options.replay is not None:
        return _replay(options.seed, options.replay)
    findings = _in_process(options.seed, options.count, options.jobs) if options.count else {}
    if options.wire:
        findings |= _over_the_wire(options.seed, options.wire)
    for number, text in findings.items():
        given = numbered(options.seed, number)
        path = _FOLDER / f"{options.seed}-{number}.{given.method}"
        path.write_bytes(given.content)
        print(f"FOUND {path} ({given.kind}): {text}; again with --seed {options.seed} --replay {number}")
    print(f"{len(findings)} findings")
    return 1 if findings else 0


def _in_process(seed: int, count: int, jobs: int) -> dict[int, str]:
    whole, memory, started = Report(), dict[int, list[tuple[int, int]]](), time.monotonic()
    tenth = max(1, count // 10)
    for process, report in processes.reports(seed, count, jobs, _FOLDER):
        if whole.count // tenth < (whole.count + report.count) // tenth:
            print(f"  {whole.count + report.count} inputs, {time.monotonic() - started:.0f} s", file=sys.stderr)
        whole.merge(report)
        memory.setdefault(process, []).extend(report.memory)
    seconds = time.monotonic() - started
    print(f"in process: {whole.count} inputs of seed {seed} in {seconds:.0f} s, {whole.count / seconds:.0f} a second,")
    print(f"  {whole.count / whole.seconds:.0f} a second of one core if making them is not counted")
    _print_table(whole, "processor time")
    for process, points in memory.items():
        if points:
            print(memory_line(f"process {process}", sorted(points)))
    return whole.findings


def _over_the_wire(seed: int, count: int) -> dict[int, str]:
    started = time.monotonic()
    with serving(demo().parent, "--max-projection-steps", "2") as server:
        warm = wire.send(server, seed + 1, count // 4)
        report = wire.send(server, seed, count)
    seconds = time.monotonic() - started
    print(f"over gRPC, 16 at once: {report.count} inputs in {seconds:.0f} s, after {warm.count} others to warm up")
    _print_table(report, "until the answer")
    print(memory_line("server", report.memory))
    return report.findings


def _print_table(report: Report, seconds_of: str) -> None:
    print(report.table())
    slowest = Table(f"slowest, s ({seconds_of}):>", "number:>7", "kind:<12", "status:<", indent="  ")
    print(slowest.text((f"{seconds:.3f}", *rest) for seconds, *rest in report.slowest))


def _replay(seed: int, number: int) -> int:
    given = numbered(seed, number)

    async def play() -> int:
        target = await Target.opened()
        outcome = await target.run(given)
        await target.close()
        print(f"{given.kind} for {given.method}, {len(given.content)} bytes: {outcome}")
        return 1 if outcome.finding else 0

    return asyncio.run(play())


if __name__ == "__main__":
    sys.exit(main())
