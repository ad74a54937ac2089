"""The ``stylewire`` command: the list of commands, their errors and exit codes. Each command has a file of its own.

A command's file is imported when the command runs: ``stylewire --help``, completion and the health probe start before
numpy and grpc would have been read.
"""

import importlib
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class _Entry(NamedTuple):
    """A command as ``stylewire --help`` lists it.

    Attributes:
        module: of its file; the ``app`` there has a command of this name, or is one.
        panel: heading in the list.
        help: the first sentence of the command's own help.
    """

    module: str
    panel: str
    help: str


_MAKE, _PHOTOS, _SERVERS, _FILES = "Make pictures", "From pictures", "Servers", "Files"
COMMANDS: dict[str, _Entry] = {
    "generate": _Entry("generate", _MAKE, "Make pictures of seeds, or of saved codes."),
    "mix": _Entry("mix", _MAKE, "Mix styles: a matrix of pictures, as in the papers."),
    "interpolate": _Entry("interpolate", _MAKE, "Interpolate between pictures: an animation or its frames."),
    "invert": _Entry("invert", _PHOTOS, "Find the codes of pictures."),
    "project": _Entry("project", _PHOTOS, "Find codes of pictures by optimization, closer than invert."),
    "toonify": _Entry("toonify", _PHOTOS, "Draw pictures anew with another model of the same latent space."),
    "models": _Entry("models", _SERVERS, "List the models of a server; load, unload and reload them."),
    "health": _Entry("serve", _SERVERS, "Ask a server for its health, for probes."),
    "bench": _Entry("bench", _SERVERS, "Measure a live service."),
    "serve": _Entry("serve", _SERVERS, "Run a server."),
    "inspect": _Entry("inspect", _FILES, "Print the provenance of pictures and videos."),
    "version": _Entry("serve", _FILES, "Print the version."),
}
EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no answer now (no server, not ready, full, too slow): "
    "the same command may succeed later, 130 interrupted. health has those of grpc_health_probe."
)
_FAILED, _TRY_LATER = 1, 3


class _Deferred(TyperCommand):
    """A command whose module is not imported yet: name and help."""

    def __init__(self, name: str, entry: _Entry) -> None:
        super().__init__(name, help=entry.help, rich_help_panel=entry.panel)
        self._name, self._module = name, entry.module

    def load(self) -> Any:
        """Import the command."""
        found = typer.main.get_command(importlib.import_module(f"stylewire.cli.commands.{self._module}").app)
        return found.commands.get(self._name, found) if isinstance(found, TyperGroup) else found


class _Commands(TyperGroup):
    """Finds commands, and turns the errors of all of them into a sentence and an exit code."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: _Deferred(name, entry) for name, entry in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, _Deferred) else command, rest

    def invoke(self, ctx: Any) -> Any:
        as_json = "--json" in ctx.args  # of the command, which may fail before it has read them
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # typer ends quietly: the reader of our output has gone
        except _failures() as error:
            raise typer.Exit(_report_failure(error, as_json=as_json)) from error


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, epilog=EPILOG)


def _print_version(wanted: bool) -> None:
    if wanted:
        importlib.import_module("stylewire.cli.commands.serve").version()
        raise typer.Exit


@app.callback()
def stylewire(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Pictures from StyleGAN2-family models, over gRPC."""


def main() -> None:
    """Run the command line."""
    app(prog_name="stylewire")


def _failures() -> tuple[type[Exception], ...]:
    """Return the errors that are no bugs; imported only when there is one."""
    return (importlib.import_module("stylewire.errors").StylewireError, OSError)


def _report_failure(error: Exception, *, as_json: bool) -> int:
    """Print an error, and choose the exit code."""
    errors = importlib.import_module("stylewire.errors")
    importlib.import_module("stylewire.cli.output").print_error(error, as_json=as_json)
    return _TRY_LATER if isinstance(error, errors.RetryableError | errors.DeadlineError) else _FAILED


if __name__ == "__main__":
    main()
