"""The output of ``stylewire bench``, as a table and as JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from stylewire import pb
from stylewire.loadtest.calls import Workload
from stylewire.loadtest.capacity import Plan, find_saturation
from stylewire.loadtest.results import Step
from stylewire.terminal import printable

_FILE_WIDTH = 120
_BUSY = 0.9
"""Share of a core from which on the client, one thread of Python, may be what is measured."""


def report(
    address: str, workload: Workload, model: pb.Model, steps: Sequence[Step], plan: Plan | None
) -> dict[str, Any]:
    """Return everything in the form of ``--json``."""
    found = find_saturation(steps)
    return {
        "address": address,
        "kind": asdict(workload),
        "model": _model_facts(model),
        "steps": [_step_facts(step) for step in steps],
        "saturated_at_callers": found and found.callers,
        "plan": plan and {**asdict(plan.target), "replicas": plan.replicas, "gpus": plan.gpus},
    }


def print_table(workload: Workload, model: pb.Model, steps: Sequence[Step]) -> None:
    """Print the steps as a table, with notes below it."""
    facts, console = _model_facts(model), Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    head = (
        f"{workload.rpc} {workload.image_format}, {facts['name']} {facts['resolution_px']} px on {facts['backend']} "
        f"{facts['device']} {facts['precision']}; milliseconds"
    )
    console.print(printable(head), highlight=False, markup=False)
    console.print(_table(steps))
    for line in _notes(steps):
        console.print(printable(line), highlight=False, markup=False)


def print_step(step: Step) -> None:
    """Print a step on a terminal, as progress."""
    console = Console(stderr=True)
    if console.is_terminal:
        load = f"{step.callers} callers" if step.callers else f"{step.offered:g} images/s offered"
        console.print(f"{load}: {step.images_per_second:.3g} images/s, p99 {step.percentile(99) * 1e3:.0f} ms")


def _table(steps: Sequence[Step]) -> Table:
    table = Table(box=None)
    load = "callers" if any(step.callers for step in steps) else "offered"
    heads = (load, "images/s", "p50", "p90", "p99", "max", "batch", "queue", "run", "encode", "calls")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("failed")
    for step in steps:
        load, spent = str(step.callers or f"{step.offered:g}"), step.server_times
        times = [step.percentile(rank) for rank in (50, 90, 99, 100)]
        server = [spent.queue_seconds, spent.inference_seconds, spent.encoding_seconds]
        table.add_row(
            load if step.complete else f"{load}, cut off",
            f"{step.images_per_second:.3g}",
            *(_milliseconds(value) for value in times),
            "-" if math.isnan(spent.batch_size) else f"{spent.batch_size:.1f}",
            *(_milliseconds(value) for value in server),
            str(sum(step.codes.values())),
            ", ".join(f"{code} {count}" for code, count in sorted(step.failures.items())) or "none",
        )
    return table


def _notes(steps: Sequence[Step]) -> list[str]:
    """List what the table shows, and why it may mislead."""
    notes = []
    if len(steps) > 1 and steps[0].callers:
        found = find_saturation(steps)
        if found is None:
            notes.append("Not saturated: every step gained; allow more callers.")
        else:
            notes.append(f"Saturated at {found.callers} callers: {found.images_per_second:.3g} images/s.")
    problems = {code: problem for step in steps for code, problem in step.problems.items()}
    notes += [f"{code}: {problem}" for code, problem in problems.items()]
    if any(step.client_share > _BUSY for step in steps):
        notes.append("The client took a whole core: it may be what was measured. Run several, or larger models.")
    if late := max((step.late_seconds for step in steps), default=0.0):
        notes.append(f"Calls were sent up to {late * 1e3:.1f} ms late (p99), which is part of the latencies.")
    return notes


def print_plan(plan: Plan | None, p99: float | None) -> None:
    """Print the plan, or that no step is fast enough for one."""
    if plan is not None:
        typer.echo(plan.explain())
    elif p99 is not None:
        typer.echo(
            f"No step kept a p99 of {p99:g} ms without a failed call: allow more time, ask for less at once "
            "(--concurrency, --open), or run each replica on more hardware.",
            err=True,
        )


def _milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1e3:.1f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def _model_facts(model: pb.Model) -> dict[str, Any]:
    names = ("name", "digest", "resolution_px", "backend", "device", "precision")
    return {name: getattr(model, name) for name in names}


def _step_facts(step: Step) -> dict[str, Any]:
    spent = step.server_times
    return {
        "callers": step.callers,
        "offered_images_per_second": step.offered,
        "seconds": step.seconds,
        "images_per_second": step.images_per_second,
        "latency_ms": {f"p{rank}": _number(step.percentile(rank) * 1e3) for rank in (50, 90, 99, 100)},
        "latency_mean_ms": _number(step.mean_seconds * 1e3),
        "batch_size": _number(spent.batch_size),
        "queue_ms": _number(spent.queue_seconds * 1e3),
        "inference_ms": _number(spent.inference_seconds * 1e3),
        "encoding_ms": _number(spent.encoding_seconds * 1e3),
        "batches": [
            {
                "size": size,
                "answers": cost.answers,
                "inference_ms": cost.inference_seconds * 1e3,
                "deviation_ms": cost.deviation_seconds * 1e3,
            }
            for size, cost in spent.batches.items()
        ],
        "codes": dict(step.codes),
        "problems": dict(step.problems),
        "client_share": step.client_share,
        "late_p99_ms": step.late_seconds * 1e3,
        "complete": step.complete,
    }


def _number(value: float) -> float | None:
    """Return None for NaN, which JSON lacks."""
    return None if math.isnan(value) else value
