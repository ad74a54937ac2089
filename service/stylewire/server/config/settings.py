"""The server's settings: flag > environment ``STYLEWIRE_*`` > configuration file > default.

``schema.py`` declares them. argparse, tomllib and pydantic do the reading: pydantic-settings cannot say where a value
came from, and its flags cannot be grouped.
"""

import argparse
import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo

from stylewire.server.config.schema import (
    SCHEMA,
    Clients,
    FaceSearch,
    Images,
    Listening,
    Logs,
    Models,
    Projections,
    RequestLimits,
    Running,
    Stopping,
    Traces,
)

ENV_PREFIX = "STYLEWIRE_"
CLIENT_VARIABLES = frozenset(
    ENV_PREFIX + name for name in ("ADDRESS", "TIMEOUT", "TLS", "CA", "CERTIFICATE", "KEY", "SERVER_NAME", "TOKEN_FILE")
)
"""Variables of the SDK and the command line, which may be set beside the server's."""
_SERVICE_LINK = re.compile(r"STYLEWIRE_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT_\d+_\w+)")
"""What Kubernetes sets in every pod of a namespace that has a Service named stylewire."""
_CONFIG_FLAG, _PRINT_FLAG = "--config", "--print-config"
_CONFIG_VARIABLE = ENV_PREFIX + "CONFIG"


class SettingError(ValueError):
    """A setting is wrong or unknown; the message names it and the nearest known one."""


def port_taken(address: str) -> SettingError:
    """Return the error of a gRPC port that is taken."""
    return SettingError(f"cannot listen on {address}; is another server there? choose another --port")


def metrics_port_taken(port: int, err: OSError) -> SettingError:
    """Return the error of a metrics port that cannot be opened."""
    return SettingError(f"cannot listen on --metrics-port {port}: {err.strerror}")


class Settings(
    Traces, Logs, Stopping, Clients, FaceSearch, Images, Projections, RequestLimits, Running, Models, Listening
):
    """The settings of a server."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("--tls-certificate and --tls-key belong together; give both or none")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("--tls-client-ca needs --tls-certificate and --tls-key")
        return self

    @model_validator(mode="after")
    def _check_triton(self) -> Self:
        if self.backend == "triton":
            if not self.triton_url:
                raise ValueError("--backend triton needs --triton-url HOST:PORT")
            if self.device != "cpu":
                raise ValueError("--device is of this process, where --backend triton runs nothing; leave it out")
        elif self.triton_url or self.triton_tls_ca:
            raise ValueError(f"--triton-url and --triton-tls-ca are for --backend triton, not for {self.backend}")
        return self

    @classmethod
    def load(cls, arguments: list[str]) -> "Settings":
        """Load settings from flags, environment and configuration file.

        Raises:
            SettingError: a setting is unknown or has a wrong value.
            SystemExit: --help or --print-config was given; the text is printed.
        """
        flags = _read_flags(arguments)
        show = flags.pop("print_config", False)
        variables = _read_environment()
        file = Path(flags.pop("config", None) or os.environ.get(_CONFIG_VARIABLE) or "")
        keys = _read_file(file) if file.name else {}
        given = {name: Given(f"{file}: {name} =", value) for name, value in keys.items()}
        given |= {name: Given(ENV_PREFIX + name.upper(), value) for name, value in variables.items()}
        given |= {name: Given(_flag(name), value) for name, value in flags.items()}
        try:
            settings = cls.model_validate({name: each.value for name, each in given.items()})
        except ValidationError as err:
            raise SettingError(_explain(err, given)) from err
        if show:
            print("\n".join(settings.toml(given)))  # noqa: T201 - what --print-config is for
            raise SystemExit(0)
        return settings

    def toml(self, given: "Mapping[str, Given]") -> Iterator[str]:
        """Yield the lines of a configuration file that names where each setting comes from; secrets are masked.

        Args:
            given: those that are not defaults.
        """
        for group in SCHEMA:
            yield f"# {_title(group)}"
            for name in group.model_fields:
                value = getattr(self, name)
                origin = given[name].origin.removesuffix(" =") if name in given else "default"
                unset = value is None or isinstance(value, SecretStr)
                yield f"{'# ' if unset else ''}{name} = {_toml_value(value)}  # {origin}"
            yield ""


class Given(NamedTuple):
    """A value, and where it comes from."""

    origin: str
    value: Any


def declarations() -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    """Yield group, name and declaration of every setting."""
    for group in SCHEMA:
        for name, field in group.model_fields.items():
            yield group, name, field


def table() -> Iterator[str]:
    """Yield the lines of the tables of docs/settings.md."""
    known = None
    for group, name, field in declarations():
        if group is not known:
            known = group
            yield from ("", f"| {_title(group)} | default | |", "| --- | --- | --- |")
        yield f"| `{_flag(name)}` | {default_text(name, field)} | {_description(field)} |"


def default_text(name: str, field: FieldInfo) -> str:
    """Return what holds if a setting is not given, as a text."""
    if name == "threads":  # its default is computed here, and differs elsewhere
        return "0"
    if field.default in (None, "", SecretStr("")):
        return "unset"
    return field.default if isinstance(field.default, str) else _toml_value(field.default)


def _description(field: FieldInfo) -> str:
    """Return what a setting is for, and its values where they are words."""
    words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return (field.description or "") + (f" One of {', '.join(words)}." if words else "")


def _title(group: type[BaseModel]) -> str:
    return (group.__doc__ or "").rstrip(".")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _names() -> list[str]:
    return [name for _, name, _ in declarations()]


def _read_flags(arguments: list[str]) -> dict[str, Any]:
    parser = _parser()
    known = {option for action in parser._actions for option in action.option_strings}  # noqa: SLF001 - no public list
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            raise SettingError(f"{flag} is no setting{_nearest(flag, known)}; see stylewire serve --help")
    return vars(parser.parse_args(arguments))


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise SettingError(f"{message}; see stylewire serve --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="stylewire serve",
        usage="stylewire serve [--config FILE] [--print-config] [settings]",
        description="Serve models over gRPC. Each setting is also a variable STYLEWIRE_NAME and a key of a TOML file; "
        "flags come before variables, variables before the file.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(_CONFIG_FLAG, metavar="FILE", help=f"TOML file of settings. [{_CONFIG_VARIABLE}]")
    parser.add_argument(_PRINT_FLAG, action="store_true", help="Print the effective settings as such a file, and end.")
    groups = {group: parser.add_argument_group(_title(group)) for group in SCHEMA}
    for group, name, field in declarations():
        text = f"{_description(field)} [{default_text(name, field)}]".replace("%", "%%")
        if field.annotation is bool:
            groups[group].add_argument(_flag(name), action=argparse.BooleanOptionalAction, help=text)
        else:
            groups[group].add_argument(_flag(name), metavar=name.rpartition("_")[2].upper(), help=text)
    return parser


def _read_environment() -> dict[str, str]:
    """Read the variables that are set; an empty one counts as not set."""
    known = {ENV_PREFIX + name.upper(): name for name in _names()}
    for variable in os.environ:
        if not variable.startswith(ENV_PREFIX) or _SERVICE_LINK.fullmatch(variable):
            continue
        if variable not in known.keys() | CLIENT_VARIABLES | {_CONFIG_VARIABLE}:
            raise SettingError(f"{variable} is no setting{_nearest(variable, known)}")
    return {name: os.environ[variable] for variable, name in known.items() if os.environ.get(variable)}


def _read_file(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise SettingError(f"{_CONFIG_FLAG} {path}: {err.strerror}") from err
    except ValueError as err:
        raise SettingError(f"{_CONFIG_FLAG} {path} is not TOML: {err}") from err
    for name in found:
        if name not in _names():
            raise SettingError(f"{path}: {name} is no setting{_nearest(name, _names())}")
    return found


def _nearest(name: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {match[0]}?" if match else ""


def _explain(err: ValidationError, given: Mapping[str, Given]) -> str:
    return "; ".join(_explain_one(".".join(map(str, e["loc"])), e["msg"], given) for e in err.errors())


def _explain_one(name: str, message: str, given: Mapping[str, Given]) -> str:
    message = message.removeprefix("Value error, ")
    if name not in given:
        return message
    value = "(secret)" if _is_secret(name) else repr(given[name].value)
    return f"{given[name].origin} {value}: {message}"


def _is_secret(name: str) -> bool:
    return any(name == each and field.annotation is SecretStr for _, each, field in declarations())


def _toml_value(value: object) -> str:
    """Format a value as TOML, which agrees with JSON about numbers, booleans and strings."""
    match value:
        case bool() | int() | float():
            return json.dumps(value)
        case None:
            return '""'
        case _:
            return json.dumps(str(value))


if __name__ == "__main__":
    print("\n".join(table()).strip())  # noqa: T201 - .ci/update-docs puts it into docs/settings.md
