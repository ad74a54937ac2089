"""The simulation against the server: the same loads, one measured by ``stylewire bench``, one simulated."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scale.cluster import Cluster, poisson
from scale.costs import Cost
from scale.steady import balancers
from serving import models
from serving.process import serving
from stylewire import pb
from stylewire.cli.commands.bench_report import report
from stylewire.loadtest.calls import Calls, Workload
from stylewire.loadtest.loops import Window
from stylewire.loadtest.results import Step
from stylewire.loadtest.sweep import Schedule, Sweep

_CALLERS = (1, 2, 4, 8, 16, 32)
_WORKLOAD = Workload(image_format="jpeg")
_UTILIZATIONS = (0.3, 0.5, 0.7, 0.85)
_STRETCHES, _WARM_UP_SECONDS = 100, 1.0
_SLEEPING = str(Path(__file__).with_name("sleeping_server.py"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One load on one server.

    Attributes:
        calls: measured.
        simulated_p50_seconds: 5th percentile, median and 95th of stretches as long as the measured one.
        simulated_p99_seconds: the same.
    """

    name: str
    utilization: float
    calls: int
    p50_seconds: float
    p99_seconds: float
    simulated_p50_seconds: list[float]
    simulated_p99_seconds: list[float]

    @property
    def within(self) -> bool:
        """Whether the measured p50 and p99 are among the simulated ones."""
        pairs = (
            (self.p50_seconds, self.simulated_p50_seconds),
            (self.p99_seconds, self.simulated_p99_seconds),
        )
        return all(low <= measured <= high for measured, (low, _, high) in pairs)


def sleeping(row_ms: float, fixed_ms: float, batch: int, seconds: float) -> list[Compared]:
    """A device of known speed behind the real server, one batch at a time."""
    settings = ("--instances", "1", "--max-batch-size", str(batch), "--max-batch-seconds", "10")
    with _environment(SCALE_FIXED_MS=str(fixed_ms), SCALE_ROW_MS=str(row_ms)):
        known = {"instances": 1, "max_batch_size": batch, "alone_seconds": None}
        name = f"device of {fixed_ms:g} + {row_ms:g} ms a row, batches of {batch}"
        return _compare(name, models.tiny(), settings, seconds, (_SLEEPING, "serve"), known)


def network(directory: Path, seconds: float, settings: Sequence[str] = ()) -> list[Compared]:
    """A network on this machine's cores, which the client shares."""
    return _compare(directory.name, directory, settings, seconds, ("-m", "stylewire", "serve"), {})


def _compare(  # noqa: PLR0913, PLR0917 - what ``sleeping`` and ``network`` share
    name: str,
    directory: Path,
    settings: Sequence[str],
    seconds: float,
    launcher: tuple[str, ...],
    known: Mapping[str, Any],
) -> list[Compared]:
    with serving(directory, *settings, launcher=launcher) as server:
        address = server.address
        model, steps = asyncio.run(_load(address, seconds / 2, callers=_CALLERS))
        cost = replace(Cost.from_report(report(address, _WORKLOAD, model, steps, None)), **known)
        rates = [utilization * cost.images_per_second for utilization in _UTILIZATIONS]
        _, measured = asyncio.run(_load(address, seconds, rates=rates))
    print(f"{name}: {cost}", flush=True)
    return [_compared(name, cost, *each) for each in zip(_UTILIZATIONS, measured, strict=True)]


async def _load(address: str, seconds: float, **course: Any) -> tuple[pb.Model, list[Step]]:
    window = Window(warm_up_seconds=_WARM_UP_SECONDS, seconds=seconds, tail_seconds=10)
    async with Calls(address, _WORKLOAD, connections=8) as calls:
        model = await calls.prepare()
        sweep = Sweep(calls, Schedule(window=window, **course), lambda _: None)
        await sweep.run()
    return model, sweep.steps


def _compared(name: str, cost: Cost, utilization: float, measured: Step) -> Compared:
    """Simulate as many stretches of the same length: the p99 of a few hundred calls is a matter of luck."""
    rate, luck = utilization * cost.images_per_second, list[tuple[float, float]]()
    stop = _WARM_UP_SECONDS + measured.seconds
    for seed in range(_STRETCHES):
        cluster = Cluster(cost, 1, balancers(1)["round_robin"], seed=seed)
        found = cluster.run(poisson(rate, stop, 1, seed), warm_up_seconds=_WARM_UP_SECONDS)
        luck.append((found.percentile(50), found.percentile(99)))
    p50, p99 = (np.percentile(column, (5, 50, 95)).tolist() for column in zip(*luck, strict=True))
    return Compared(
        name=name,
        utilization=utilization,
        calls=len(measured.latencies),
        p50_seconds=measured.percentile(50),
        p99_seconds=measured.percentile(99),
        simulated_p50_seconds=p50,
        simulated_p99_seconds=p99,
    )


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
