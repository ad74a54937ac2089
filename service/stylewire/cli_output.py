"""What the command line prints: progress, tables, errors."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stylewire import pb
from stylewire.errors import StylewireError

T = TypeVar("T")


def models_table(found: Sequence[pb.Model]) -> Table:
    """List models, one a row."""
    table = Table("model", "state", "size", "layers", "calls", "encoders", "latent space", "runs on", box=None)
    for each in found:
        capabilities = [pb.Capability.Name(c).removeprefix("CAPABILITY_").lower() for c in each.capabilities]
        table.add_row(
            f"{_reference(each)} (default)" if each.default_model else _reference(each),
            pb.Model.State.Name(each.state).removeprefix("STATE_").lower(),
            f"{each.resolution_px} px",
            str(each.layer_count),
            ", ".join(capabilities),
            ", ".join(encoder.name for encoder in each.encoders),
            each.latent_space.removeprefix("sha256:")[:12],
            f"{each.backend} {each.device} {each.precision}",
        )
    return table


def runtimes_table(found: Sequence[pb.Model]) -> Table:
    """List the memory of models, what runs their graphs, and what else was tried, the fastest first."""
    table = Table("graph", "backend", "rows/s", "", box=None)
    for each in found:
        table.add_row(_reference(each), "", "", f"{each.resident_bytes / 1e6:.0f} MB")
        for runtime in sorted(each.runtimes, key=lambda runtime: (runtime.graph, -runtime.rows_per_second)):
            table.add_row(
                f"{_reference(each)}.{runtime.graph}",
                f"{runtime.backend} {runtime.precision}",
                f"{runtime.rows_per_second:.3g}" if runtime.rows_per_second else "",
                "runs it" if runtime.chosen else runtime.problem,
            )
    return table


def _reference(model: pb.Model) -> str:
    return f"{model.name}@{model.version}" if model.version else model.name


def progress(items: Iterable[T], label: str, total: float | None = None) -> Iterable[T]:
    """Go through items with a bar on the terminal; without a terminal, silently."""
    console = Console(stderr=True)
    return track(items, label, total=total, console=console, transient=True, disable=not console.is_terminal)


def print_written(path: Path) -> None:
    """Say which file was written."""
    typer.echo(f"wrote {path}")


def error_text(error: StylewireError | OSError) -> str:
    """Say what went wrong: a sentence, then the wrong fields and what may help."""
    lines = [f"error: {error}"]
    if isinstance(error, StylewireError):
        lines += [f"  {field}: {text}" for field, text in error.violations if f"{field}: {text}" not in error.message]
        if error.retry_after_seconds is not None:
            lines.append(f"  try again in {error.retry_after_seconds:.1f} s")
        if error.request_id and error.reason == "INTERNAL":
            lines.append(f"  the server's log has more under request id {error.request_id}")
    return "\n".join(lines)
