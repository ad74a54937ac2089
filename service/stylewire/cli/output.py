"""What the command line prints: progress, what was written, errors. Results go to standard output."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from stylewire.client.results import Inversion, Result
from stylewire.errors import StylewireError
from stylewire.terminal import printable


class Bar:
    """A bar on the terminal, or nothing where there is none."""

    def __init__(self, shown: Progress, task: TaskID) -> None:
        self._shown, self._task = shown, task

    def advance(self) -> None:
        """Add one to what is done."""
        self._shown.advance(self._task)

    def reach(self, done: int, label: str) -> None:
        """Set what is done, and the label."""
        self._shown.update(self._task, completed=done, description=label)


class Report:
    """The results of a command: sentences for people, or with ``--json`` an object a line.

    Args:
        as_json: print objects.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._failures = 0

    def line(self, text: str, **facts: object) -> None:
        """Print a sentence, or the facts in it."""
        typer.echo(json.dumps(facts) if self._as_json else printable(text))

    def wrote(self, path: Path, **facts: object) -> None:
        """Print that a file was written, and what is in it."""
        self.line(f"wrote {path}", file=str(path), **facts)

    def note(self, text: str) -> None:
        """Print a remark to standard error."""
        typer.echo(printable(text), err=True)

    def step(self, **facts: object) -> None:
        """Print progress, for programs; people see a bar."""
        if self._as_json:
            typer.echo(json.dumps(facts))

    def failed(self, path: Path, error: Exception) -> None:
        """Print why a file failed, while the others go on."""
        self._failures += 1
        if self._as_json:
            typer.echo(json.dumps({"file": str(path), "error": error_facts(error)}))
        else:
            typer.echo(f"{printable(str(path))}: {error_text(error)}", err=True)

    def end(self) -> None:
        """End the command: with exit code 1 if something failed.

        Raises:
            typer.Exit: then.
        """
        if self._failures:
            raise typer.Exit(1)


def facts_of(result: Result | Inversion) -> dict[str, object]:
    """Return size, digest, batch size and times of a result, for ``--json``."""
    picture = result if isinstance(result, Result) else result.reconstruction
    size = {"width_px": picture.width_px, "height_px": picture.height_px} if picture else {}
    return {**size, "model_digest": result.model_digest, "batch_size": result.batch_size, **result.timing._asdict()}


@contextmanager
def progress(label: str, total: float | None = None) -> Iterator[Bar]:
    """Show a bar on the terminal while something long runs; without a terminal, nothing."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # Where only one of both is a terminal, what is printed would be taken to the bar's.
        redirect_stdout=sys.stdout.isatty(),
    ) as shown:
        yield Bar(shown, shown.add_task(label, total=total))


def print_error(error: Exception, *, as_json: bool = False) -> None:
    """Print why a command failed, beside its output."""
    typer.echo(json.dumps({"error": error_facts(error)}) if as_json else f"error: {error_text(error)}", err=True)


def error_text(error: Exception) -> str:
    """Describe an error: a sentence, then the wrong fields and what may help."""
    lines = [str(error)]
    if isinstance(error, StylewireError):
        lines += [f"  {field}: {text}" for field, text in error.violations if f"{field}: {text}" not in error.message]
        if error.retry_after_seconds is not None:
            lines.append(f"  try again in {error.retry_after_seconds:.1f} s")
        if error.request_id and error.reason == "INTERNAL":
            lines.append(f"  the server's log has more under request id {error.request_id}")
    return "\n".join(map(printable, lines))


def cells(*values: str) -> list[Text]:
    """Make the cells of a row of a table: what a server calls a thing is neither markup nor a sequence."""
    return [Text(printable(value)) for value in values]


def error_facts(error: Exception) -> dict[str, object]:
    """Return an error as an object, for ``--json``."""
    if not isinstance(error, StylewireError):
        return {"reason": type(error).__name__, "message": str(error)}
    facts = {"reason": error.reason, "message": error.message, "request_id": error.request_id}
    return {
        **{name: fact for name, fact in facts.items() if fact is not None},
        **({"violations": [each._asdict() for each in error.violations]} if error.violations else {}),
        **({"retry_after_seconds": error.retry_after_seconds} if error.retry_after_seconds is not None else {}),
    }
