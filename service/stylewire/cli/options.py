"""Options that several commands have, declared once: groups of them, and how a command takes a group.

A group is a frozen dataclass whose fields are options. A command that has a parameter of such a type, under
``@grouped``, gets the group's options; typer sees them as if they were its own.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from stylewire.client import AsyncClient, Client
from stylewire.client.connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS
from stylewire.client.options import NoiseMode
from stylewire.security import Security

_Function = TypeVar("_Function", bound=Callable[..., None])
CONNECTION, PICTURES, OUTPUT = "Connection", "Pictures", "Output"

Psi = Annotated[
    float | None,
    typer.Option(help="Truncation: 1 keeps the code, 0 is the mean. None by default.", rich_help_panel=PICTURES),
]
Model = Annotated[
    str, typer.Option(help="Name of the model; the server's default model if not set.", rich_help_panel=PICTURES)
]
Noise = Annotated[NoiseMode, typer.Option(help="Pixel noise.", rich_help_panel=PICTURES)]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON object a line; errors too.", rich_help_panel=OUTPUT)]
Size = Annotated[
    int | None, typer.Option(min=1, help="Width and height; the model's own by default.", rich_help_panel=OUTPUT)
]
Zoom = Annotated[
    int, typer.Option(min=1, max=16, help="Enlarge pixels of sheets, for looking at.", rich_help_panel=OUTPUT)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server, the timeout of a call, TLS and the token.

    Attributes:
        address: ``host:port`` or any gRPC target.
        timeout: seconds to wait for an answer.
        tls: use TLS with the authorities that gRPC ships.
        ca: PEM file of the authorities that may vouch for the server.
        certificate: PEM file shown to the server.
        key: PEM file of its private key.
        server_name: name in the server's certificate, if it is not that of the address.
        token_file: file of a bearer token.
    """

    address: Annotated[
        str,
        typer.Option(
            envvar="STYLEWIRE_ADDRESS", help="host:port of the server, or any gRPC target.", rich_help_panel=CONNECTION
        ),
    ] = DEFAULT_ADDRESS
    timeout: Annotated[
        float,
        typer.Option(
            envvar="STYLEWIRE_TIMEOUT", min=0.001, help="Seconds to wait for an answer.", rich_help_panel=CONNECTION
        ),
    ] = DEFAULT_TIMEOUT_SECONDS
    tls: Annotated[
        bool,
        typer.Option(
            "--tls",
            envvar="STYLEWIRE_TLS",
            help="Use TLS; --ca, --certificate and --server-name imply it.",
            rich_help_panel=CONNECTION,
        ),
    ] = False
    ca: Annotated[
        Path | None,
        typer.Option(
            envvar="STYLEWIRE_CA",
            metavar="FILE",
            help="PEM file of authorities; those of gRPC by default.",
            rich_help_panel=CONNECTION,
        ),
    ] = None
    certificate: Annotated[
        Path | None,
        typer.Option(
            envvar="STYLEWIRE_CERTIFICATE",
            metavar="FILE",
            help="PEM file shown to the server (mutual TLS).",
            rich_help_panel=CONNECTION,
        ),
    ] = None
    key: Annotated[
        Path | None,
        typer.Option(
            envvar="STYLEWIRE_KEY", metavar="FILE", help="PEM file of its private key.", rich_help_panel=CONNECTION
        ),
    ] = None
    server_name: Annotated[
        str,
        typer.Option(
            envvar="STYLEWIRE_SERVER_NAME",
            metavar="NAME",
            help="Name in the server's certificate, if not the address.",
            rich_help_panel=CONNECTION,
        ),
    ] = ""
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="STYLEWIRE_TOKEN_FILE",
            metavar="FILE",
            help="File of a bearer token; sent with TLS, or within this machine.",
            rich_help_panel=CONNECTION,
        ),
    ] = None

    @property
    def security(self) -> Security:
        """TLS and token, for a client.

        Raises:
            typer.BadParameter: one of certificate and key is missing.
        """
        with _usage_errors():
            return Security(
                ca=self.ca,
                certificate=self.certificate,
                key=self.key,
                server_name=self.server_name,
                token=self.token_file,
                tls=self.tls,
            )

    def client(self) -> Client:
        """Make a client.

        Raises:
            OSError: a file of TLS cannot be read.
            typer.BadParameter: the token would travel in the clear.
        """
        with _usage_errors():
            return Client(self.address, timeout=self.timeout, security=self.security)

    def async_client(self) -> AsyncClient:
        """Make a client, inside a running event loop; raises as ``client``."""
        with _usage_errors():
            return AsyncClient(self.address, timeout=self.timeout, security=self.security)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientServer(Server):
    """``Server`` for calls that take minutes."""

    timeout: Annotated[
        float,
        typer.Option(
            envvar="STYLEWIRE_TIMEOUT", min=0.001, help="Seconds for the whole of a call.", rich_help_panel=CONNECTION
        ),
    ] = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How pictures are made.

    Attributes:
        model: its name.
        psi: truncation of seeds; a call takes none, since what comes from files has its code already.
        noise: pixel noise.
    """

    model: Model = ""
    psi: Psi = None
    noise: Noise = "const"


def examples(*lines: str) -> str:
    """Return the text below a command's help: example command lines."""
    return "\n\n".join(("Examples:", *lines))


def grouped(function: _Function) -> _Function:
    """Replace the parameters of a command that are groups by the options of the groups."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            parameters += _options(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(function)
    def run(**values: Any) -> None:
        made = {
            name: kind(**{each.name: values.pop(each.name) for each in fields(kind)}) for name, kind in groups.items()
        }
        function(**values, **made)

    signature = inspect.Signature(parameters)
    run.__signature__ = signature  # type: ignore[attr-defined]  # what inspect looks for, and so typer
    run.__doc__ = _unwrapped(inspect.getdoc(function) or "")
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run  # type: ignore[return-value]  # called by typer, with the options by name


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Refuse options that contradict each other as typer refuses one that is wrong."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _unwrapped(text: str) -> str:
    """Let the terminal break lines, not the source."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.default is MISSING else each.default,
            annotation=hints[each.name],
        )
        for each in fields(group)
    ]
