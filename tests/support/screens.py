"""What a page shows of the command line: commands behind ``$``, and below each what it prints."""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from typer.testing import CliRunner

from stylewire.cli.main import app

_COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_FOR_SHELLS = re.compile(r"[|;&$<>]")
_STYLE = re.compile(r"\x1b\[[\d;]*m")
_REQUEST_ID = re.compile(r'("request_id": ")[0-9a-f]+')
"""Another one in each answer."""
_TERMINAL = {"COLUMNS": "100", "NO_COLOR": "1"}


class Screen(NamedTuple):
    """A command, and what is shown below it."""

    command: str
    shown: str


def screens(code: str) -> list[Screen]:
    """Read a block."""
    return [Screen(match[1], match[2]) for match in _COMMAND.finditer(code)]


def said(command: str, addresses: Mapping[str, str]) -> str:
    """Run a command, in this process if it needs no shell; gives what it printed on a terminal of 100 columns.

    Args:
        command: from a page.
        addresses: those of the page -> those of the servers.
    """
    for shown, real in addresses.items():
        command = command.replace(shown, real)
    text = _REQUEST_ID.sub(r"\1...", _STYLE.sub("", _printed(command)))
    for shown, real in addresses.items():
        text = text.replace(real, shown)
    text = "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
    return f"{text}\n" if text else ""


def _printed(command: str) -> str:
    if not _FOR_SHELLS.search(command):
        name, *arguments = shlex.split(command)
        assert "stylewire" == name
        return CliRunner().invoke(app, arguments, env=_TERMINAL, prog_name=name, catch_exceptions=False).output
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **_TERMINAL},
    )
    return done.stdout
