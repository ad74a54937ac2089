"""``stylewire bench``: the speed of a live service, and how many replicas a target takes."""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NewType, TypeAlias

import typer

from stylewire import pb
from stylewire.cli.commands.bench_report import print_plan, print_step, print_table, report
from stylewire.cli.options import Server, grouped
from stylewire.loadtest.calls import Calls, Rpc, Workload
from stylewire.loadtest.capacity import Plan, Target
from stylewire.loadtest.loops import Window
from stylewire.loadtest.results import Step
from stylewire.loadtest.sweep import Schedule, Sweep

PictureFormat: TypeAlias = Literal["png", "jpeg", "webp", "pixels", "tensor"]
app = typer.Typer(add_completion=False)
Counts = NewType("Counts", list[int])
Rates = NewType("Rates", list[float])


def _parse_counts(text: str) -> Counts:
    return Counts([int(number) for number in _parse_rates(text)])


def _parse_rates(text: str) -> Rates:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 1,2,4") from error
    if not all(0 < number < math.inf for number in numbers):
        raise typer.BadParameter(f"{text!r} has a number that is not above 0")
    return Rates(numbers)


@app.command()
@grouped
def bench(
    *,
    rpc: Annotated[Rpc, typer.Option(help="Which RPC is called.")] = "generate",
    model: Annotated[str, typer.Option(help="Name of the model; the server's default model when not given.")] = "",
    image_format: Annotated[PictureFormat, typer.Option("--format", help="Form of the pictures.")] = "png",
    batch: Annotated[int, typer.Option(min=1, help="Latents a call of generate.")] = 1,
    psi: Annotated[float | None, typer.Option(help="Truncation.")] = None,
    picture: Annotated[Path | None, typer.Option(help="What is inverted; by default one that the model made.")] = None,
    concurrency: Annotated[
        Counts | None,
        typer.Option(
            parser=_parse_counts,
            metavar="N,N",
            help="Callers of each step. By default doubled from 1 until that twice gains less than 5 %.",
        ),
    ] = None,
    max_concurrency: Annotated[int, typer.Option(min=1, help="Where doubling ends.")] = 256,
    open_rates: Annotated[
        Rates | None,
        typer.Option(
            "--open",
            parser=_parse_rates,
            metavar="RATE,RATE",
            help="Call at random moments at these rates "
            "(images/s), whatever becomes of the calls before. Trust these latencies: callers that wait "
            "stop calling while a server stalls. Trust the default for the most that the service can do.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Measured in each step.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds before that, in each step.")] = 2.0,
    connections: Annotated[int, typer.Option(min=1, help="Connections, used in turn.")] = 8,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Wanted images/s: how many replicas? Needs --p99.")
    ] = None,
    p99: Annotated[
        float | None, typer.Option(min=0.001, help="Milliseconds that 99 % of the calls shall keep.")
    ] = None,
    headroom: Annotated[float, typer.Option(min=0, max=0.95, help="Share of each replica that stays free.")] = 0.3,
    gpus_per_replica: Annotated[
        int | None, typer.Option(min=0, help="By default 1 if the model runs on a GPU.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Replicas behind the address now.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; bench/scale takes it as its cost model.")
    ] = False,
    server: Server,
) -> None:
    """Measure a live service: images/s and latency by concurrency, saturation, and the replicas for a load.

    It loads the service with all it can take: run it where that hurts nobody. Ctrl-C prints what was measured.
    """
    if (rate is None) != (p99 is None):
        raise typer.BadParameter("--rate and --p99 belong together: a load, and how long a call may take")
    workload = Workload(rpc=rpc, model=model, image_format=image_format, latents=batch, psi=psi, timeout=server.timeout)
    schedule = Schedule(
        window=Window(warm_up_seconds=warm_up, seconds=seconds, tail_seconds=server.timeout),
        callers=concurrency or (),
        max_callers=max_concurrency,
        rates=open_rates or (),
        images_per_call=workload.images,
    )
    content = picture.read_bytes() if picture else b""
    security = server.security
    measurement = _Measurement(
        lambda: Calls(server.address, workload, connections=connections, picture=content, security=security), schedule
    )
    whole, plan = measurement.run(), None
    if rate is not None and p99 is not None:
        gpus = int(measurement.model.device.startswith("cuda")) if gpus_per_replica is None else gpus_per_replica
        plan = Plan.make(
            measurement.steps,
            Target(
                images_per_second=rate,
                p99_seconds=p99 / 1e3,
                headroom=headroom,
                gpus_per_replica=gpus,
                measured_replicas=replicas,
            ),
        )
    if as_json:
        typer.echo(json.dumps(report(server.address, workload, measurement.model, measurement.steps, plan), indent=1))
    else:
        print_table(workload, measurement.model, measurement.steps)
        print_plan(plan, p99)
    answered = any(step.images for step in measurement.steps)
    raise typer.Exit(0 if whole and answered and (plan or rate is None) else 1)


class _Measurement:
    """A measurement from the first call to the last.

    Attributes:
        model: what is measured; empty before the server has described it.
    """

    def __init__(self, connect: Callable[[], Calls], schedule: Schedule) -> None:
        self.model = pb.Model()
        self._connect, self._schedule = connect, schedule
        self._sweep: Sweep | None = None

    @property
    def steps(self) -> Sequence[Step]:
        """The steps that were measured."""
        return self._sweep.steps if self._sweep else ()

    def run(self) -> bool:
        """Run all steps; return False if Ctrl-C interrupted them."""
        try:
            asyncio.run(self._run())
        except KeyboardInterrupt:
            return False
        return True

    async def _run(self) -> None:
        async with self._connect() as calls:
            self.model = await calls.prepare()
            self._sweep = Sweep(calls, self._schedule, print_step)
            try:
                await self._sweep.run()
            except asyncio.CancelledError:
                self._sweep.interrupt()
                raise
