"""The commands under ``stylewire models``: list, and for administrators load, unload and reload."""

import json
from collections.abc import Iterable
from typing import Annotated, NamedTuple

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Console

from stylewire import pb
from stylewire.cli.commands.tables import models_table, runtimes_table
from stylewire.cli.options import CONNECTION, Json, Server, grouped
from stylewire.cli.output import Report
from stylewire.client.admin import DEFAULT_TIMEOUT_SECONDS as ADMIN_TIMEOUT_SECONDS
from stylewire.client.admin import AdminClient

app = typer.Typer(add_completion=False)


class Reference(NamedTuple):
    """A model, and one version of it or any."""

    name: str
    version: str


def parse_reference(text: str) -> Reference:
    """Read ``faces`` or ``faces@2``."""
    name, at, version = text.partition("@")
    if not name or (at and not version):
        raise typer.BadParameter(f"{text!r} is not a model such as faces, or faces@2 for its version 2")
    return Reference(name, version)


Named = Annotated[Reference, typer.Argument(parser=parse_reference, metavar="NAME[@VERSION]", help="The model.")]
AdminAddress = Annotated[
    str,
    typer.Option(
        envvar="STYLEWIRE_ADMIN_ADDRESS",
        help="The server's --admin-address: unix:/path or host:port.",
        rich_help_panel=CONNECTION,
    ),
]
AdminTimeout = Annotated[
    float, typer.Option("--timeout", min=0.001, help="Seconds to wait for the end.", rich_help_panel=CONNECTION)
]


@app.callback(invoke_without_command=True)
@grouped
def models(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of all that the server says.")] = False,
    server: Server,
) -> None:
    """List the models of a server; load, unload and reload them."""
    if ctx.invoked_subcommand:
        return
    with server.client() as client:
        found = client.models()
    if as_json:
        typer.echo(json.dumps([MessageToDict(each, preserving_proto_field_name=True) for each in found], indent=2))
    else:
        Console().print(models_table(found))
        Console().print()
        Console().print(runtimes_table(found))


@app.command()
def load(
    model: Named,
    *,
    as_json: Json = False,
    admin_address: AdminAddress,
    timeout: AdminTimeout = ADMIN_TIMEOUT_SECONDS,
) -> None:
    """Load a model of the server's folder that is not loaded: a version, or the newest."""
    with AdminClient(admin_address, timeout=timeout) as client:
        _print(Report(as_json=as_json), "loaded", [client.load(*model)])


@app.command()
def unload(
    model: Named,
    *,
    as_json: Json = False,
    admin_address: AdminAddress,
    timeout: AdminTimeout = ADMIN_TIMEOUT_SECONDS,
) -> None:
    """Unload a version of a model, or all of them; calls that use it are finished."""
    with AdminClient(admin_address, timeout=timeout) as client:
        _print(Report(as_json=as_json), "unloaded", client.unload(*model))


@app.command()
def reload(
    model: Named,
    *,
    as_json: Json = False,
    admin_address: AdminAddress,
    timeout: AdminTimeout = ADMIN_TIMEOUT_SECONDS,
) -> None:
    """Load a model once more, changed or not, and replace it without a gap."""
    with AdminClient(admin_address, timeout=timeout) as client:
        _print(Report(as_json=as_json), "reloaded", [client.reload(*model)])


def _print(report: Report, done: str, changed: Iterable[pb.Model]) -> None:
    for each in changed:
        reference = f"{each.name}@{each.version}" if each.version else each.name
        report.say(
            f"{done} {reference} {each.digest.removeprefix('sha256:')[:12]}",
            done=done,
            name=each.name,
            version=each.version,
            digest=each.digest,
        )
