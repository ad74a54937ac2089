"""The commands under ``stylewire models``: list, and for administrators load, unload and reload."""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.table import Table

from stylewire import pb
from stylewire.cli.options import CONNECTION, Json, Server, grouped
from stylewire.cli.output import Report, cells
from stylewire.client.admin import DEFAULT_TIMEOUT_SECONDS as ADMIN_TIMEOUT_SECONDS
from stylewire.client.admin import AdminClient

app = typer.Typer(add_completion=False)


class Reference(NamedTuple):
    """A model, and one version of it or any."""

    name: str
    version: str


def parse_reference(text: str) -> Reference:
    """Parse ``faces`` or ``faces@2``."""
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
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of the full descriptions.")] = False,
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
        Console().print(_models_table(found))
        Console().print()
        Console().print(_runtimes_table(found))


@app.command()
def load(
    model: Named,
    *,
    as_json: Json = False,
    admin_address: AdminAddress,
    timeout: AdminTimeout = ADMIN_TIMEOUT_SECONDS,
) -> None:
    """Load a model of the server's repository that is not loaded: a version, or the newest."""
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
        report.line(
            f"{done} {_reference(each)} {each.digest.removeprefix('sha256:')[:12]}",
            done=done,
            name=each.name,
            version=each.version,
            digest=each.digest,
        )


def _models_table(found: Sequence[pb.Model]) -> Table:
    """List models, one a row."""
    table = Table("model", "state", "size", "layers", "calls", "encoders", "latent space", "runs on", box=None)
    for each in found:
        capabilities = [pb.Capability.Name(c).removeprefix("CAPABILITY_").lower() for c in each.capabilities]
        row = cells(
            f"{_reference(each)} (default)" if each.default_model else _reference(each),
            pb.Model.State.Name(each.state).removeprefix("STATE_").lower(),
            f"{each.resolution_px} px",
            str(each.layer_count),
            ", ".join(capabilities),
            ", ".join(encoder.name for encoder in each.encoders),
            each.latent_space.removeprefix("sha256:")[:12],
            f"{each.backend} {each.device} {each.precision}",
        )
        table.add_row(*row)
    return table


def _runtimes_table(found: Sequence[pb.Model]) -> Table:
    """List the memory of models, what runs their graphs, and what else was tried, the fastest first."""
    table = Table("graph", "backend", "rows/s", "", box=None)
    for each in found:
        table.add_row(*cells(_reference(each), "", "", f"{each.resident_bytes / 1e6:.0f} MB"))
        for runtime in sorted(each.runtimes, key=lambda runtime: (runtime.graph, -runtime.rows_per_second)):
            row = cells(
                f"{_reference(each)}.{runtime.graph}",
                f"{runtime.backend} {runtime.precision}",
                f"{runtime.rows_per_second:.3g}" if runtime.rows_per_second else "",
                "runs it" if runtime.chosen else runtime.problem,
            )
            table.add_row(*row)
    return table


def _reference(model: pb.Model) -> str:
    return f"{model.name}@{model.version}" if model.version else model.name
