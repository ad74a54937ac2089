"""``stylewire serve``, ``health`` and ``version``: they start before anything that they do not need is imported."""

import importlib.metadata

import typer

app = typer.Typer(add_completion=False)
_OWN_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_OWN_ARGUMENTS, add_help_option=False)
def serve(ctx: typer.Context) -> None:
    """Run a server; `stylewire serve --help` lists its settings."""
    try:
        from stylewire.server.main import main as serve_main  # noqa: PLC0415 - an extra, and it imports a runtime
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "stylewire":
            raise
        typer.echo(f"the server needs {error.name}: pip install 'stylewire[server,cpu]'", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(serve_main(ctx.args))


@app.command(context_settings=_OWN_ARGUMENTS, add_help_option=False)
def health(ctx: typer.Context) -> None:
    """Ask a server for its health, for probes; `stylewire-health` is the same and starts faster."""
    from stylewire.health import main as health_main  # noqa: PLC0415 - the other commands need no grpc

    raise typer.Exit(health_main(ctx.args))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("stylewire"))
