"""Inputs on all cores: each process has a server of its own, and notes what it is about to do in case it dies of it."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from fuzz.report import Report, resident_bytes
from support.fuzz.inputs import numbered
from support.fuzz.target import Target

_CHUNK = 500


class _Worker:
    """One process's server, and its loop, which live as long as the process."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.target = self.loop.run_until_complete(Target.opened())
        self.note = os.open(folder / f"running-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.done = 0


_workers: list[_Worker] = []


def _start(folder: Path) -> None:
    _workers.append(_Worker(folder))


def _run(seed: int, first: int, stop: int) -> tuple[int, Report]:
    (worker,) = _workers
    report = worker.loop.run_until_complete(_play(worker, seed, range(first, stop)))
    worker.done += stop - first
    report.memory = [(worker.done, resident_bytes())]
    return os.getpid(), report


async def _play(worker: _Worker, seed: int, numbers: range) -> Report:
    report = Report()
    for number in numbers:
        os.pwrite(worker.note, b"%12d\n" % number, 0)
        given = numbered(seed, number)
        outcome = await worker.target.run(given)
        report.add(number, given.kind, outcome.code, outcome.seconds, outcome.finding)
    return report


def reports(seed: int, count: int, jobs: int, folder: Path) -> Iterator[tuple[int, Report]]:
    """Run inputs 0 to ``count``; yield (process, report) for every part that is done.

    A process that dies is a finding: the inputs that were in flight then.
    """
    for old in folder.glob("running-*"):
        old.unlink()
    context = get_context("spawn")  # gRPC does not survive a fork
    with ProcessPoolExecutor(jobs, context, _start, (folder,)) as pool:
        parts = [pool.submit(_run, seed, first, min(first + _CHUNK, count)) for first in range(0, count, _CHUNK)]
        try:
            for part in as_completed(parts):
                yield part.result()
        except BrokenProcessPool:
            yield 0, _of_the_dead(folder)


def _of_the_dead(folder: Path) -> Report:
    report = Report()
    for note in folder.glob("running-*"):
        with suppress(ValueError):
            report.add(int(note.read_text(encoding="ascii")), "unknown", "crash", 0.0, "the process died")
    return report
