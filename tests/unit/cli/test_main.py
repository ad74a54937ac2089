"""The command line as a whole: which commands there are, how they start, how they end."""

import contextlib
import importlib.metadata
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import types

import pytest
import typer
from typer.core import TyperGroup

from stylewire import (
    InternalError,
    InvalidFieldError,
    ModelNotFoundError,
    OverloadedError,
    Violation,
)
from stylewire.cli.main import COMMANDS, app
from stylewire.server.config.settings import CLIENT_VARIABLES
from stylewire.testing.launcher import with_default_signals

MAIN = typer.main.get_command(app)
CALLERS = ["generate", "mix", "interpolate", "invert", "project", "toonify", "models", "bench"]


def loaded(name):
    """The command itself, behind its line in the list."""
    with MAIN.make_context("stylewire", [name], resilient_parsing=True) as context:
        return MAIN.resolve_command(context, [name])[1]


def examples():
    for name in COMMANDS:
        lines = (loaded(name).epilog or "").split("\n\n")
        yield from (line for line in lines if line.startswith("stylewire "))


def test_help_lists_the_commands_in_panels(command):
    """Each command is under its heading, with one sentence."""
    done = command("--help")

    assert 0 == done.exit_code
    assert [name for name in COMMANDS if f"│ {name} " not in done.stdout] == []
    assert all(entry.panel in done.stdout and entry.help in done.stdout for entry in COMMANDS.values())


@pytest.mark.parametrize("name", list(COMMANDS))
def test_list_says_what_the_command_says(name):
    """The list has the name and the first sentence of the command's own help, though it does not import it."""
    help_text = loaded(name).help

    assert COMMANDS[name].help.rstrip(".") in help_text.partition("\n\n")[0].replace("`", "")


def test_examples_are_right_command_lines():
    """Every example that a help text shows can be parsed."""
    lines = list(examples())

    assert len(lines) > 10
    for line in lines:
        name, *arguments = shlex.split(line)[1:]
        loaded(name).make_context(name, arguments).close()


@pytest.mark.parametrize("name", CALLERS)
def test_callers_take_the_same_connection(name):
    """Every command that calls a server has the same options for that, with variables that servers leave alone."""
    options = {option.opts[0]: option.envvar for option in loaded(name).params if option.param_type_name == "option"}
    names = ("address", "timeout", "tls", "ca", "certificate", "key", "server-name", "token-file")
    variables = {f"--{each}": f"STYLEWIRE_{each.upper().replace('-', '_')}" for each in names}

    assert variables == {option: options.get(option) for option in variables}
    assert set(variables.values()) == CLIENT_VARIABLES


def test_help_starts_light():
    """The list of commands, and so completion of their names, reads neither numpy nor grpc nor Pillow."""
    heavy = "{'numpy', 'grpc', 'PIL', 'google.protobuf', 'stylewire.client.sync'}"
    script = f"""
import sys
from stylewire.cli.main import main
sys.argv = ["stylewire", "--help"]
try:
    main()
finally:
    print(sorted({heavy} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]" == done.stderr.strip()
    assert "generate" in done.stdout


@pytest.mark.parametrize(
    ("words", "index", "expected"),
    [("stylewire inv", 1, "invert"), ("stylewire generate --see", 2, "--seeds"), ("stylewire models rel", 2, "reload")],
)
def test_shells_complete_commands_and_options(words, index, expected):
    """Bash's completion knows commands, their options, and commands below them."""
    environment = {"_STYLEWIRE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(index)}
    script = "from stylewire.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), **environment},
    )

    assert expected in done.stdout.split()


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version_is_the_packages(command, arguments):
    """The version comes from the installed package."""
    assert importlib.metadata.version("stylewire") == command(*arguments).stdout.strip()


def test_models_prints_a_table_or_json(command):
    """A person gets a table, a program JSON."""
    table, text = command("models"), command("models", "--json")

    assert 0 == table.exit_code == text.exit_code
    assert "a (default)" in table.stdout
    assert ["a.synthesis", "ncnn", "fp32", "12.3", "runs", "it"] in [line.split() for line in table.stdout.splitlines()]
    assert "openvino is not here" in " ".join(table.stdout.split())
    assert ["a", "b"] == [model["name"] for model in json.loads(text.stdout)]
    assert 64 == json.loads(text.stdout)[0]["layers"][9]["resolution_px"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["generate", "--out", "d"], "nothing to make"),
        (["generate", "--seeds", "1"], "nothing to write"),
        (["generate", "--seeds", "1-x", "--out", "d"], "is not a seed such as"),
        (["generate", "--seeds", "9-1", "--out", "d"], "write 1-9"),
        (["generate", "--seeds", "0-999999", "--out", "d"], "the most is"),
        (["generate", "--seeds", "1", "--grid", "g.tiff"], "ends in none of"),
        (["generate", "--seeds", "1,1", "--out", "d"], "seed0001.png would be written twice"),
        (["generate", "--seeds", "1", "--out", "d", "--format", "gif"], "'gif' is not one of"),
        (["generate", "--seeds", "1", "--grid", "g.png", "--skip-existing"], "--skip-existing is for --out"),
        (["generate", "--code", "*.npz", "--out", "d"], "no codes in *.npz"),
        (["generate", "--seeds", "1", "--out", "d", "--key", "k.pem"], "certificate and key belong together"),
        (
            ["generate", "--seeds", "1", "--out", "d", "--token-file", "t", "--address", "far.example:8500"],
            "the token would travel readable to far.example:8500",
        ),
        (["mix", "--rows", "1", "--cols", "1", "--styles", "corse", "--out", "m.png"], "coarse, middle, fine"),
        (["mix", "--rows", "1,a.gif", "--cols", "1", "--styles", "fine", "--out", "m.png"], "a file of a code (.npz)"),
        (["interpolate", "--seeds", "1,2", "--out", "x.avi"], "ends in none of"),
        (["invert", "."], "no pictures in ."),
        (["toonify", "a.png", "--to", "b"], "nothing to write"),
        (["toonify", "a.png", "--to", "b", "--out", "d", "--weight", "0.5"], "are for a --style"),
        (["paint"], "No such command"),
        (["generat"], "Did you mean 'generate'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_usage_is_exit_code_2(command, fake, arguments, text):
    """A wrong command line says what is wrong and asks no server."""
    done = command(*arguments)

    assert 2 == done.exit_code
    assert text in " ".join(done.stderr.replace("│", " ").split())
    assert [] == fake.requests


def test_refused_requests_name_the_fields(command, fake):
    """An error of the server is one sentence with every wrong field, and exit code 1."""
    fake.fail_next(InvalidFieldError.of([Violation(f"latents[{k}].seed", "is wrong") for k in range(5)]))
    done = command("generate", "--seeds", "1", "--out", "d")

    assert (1, "") == (done.exit_code, done.stdout)
    assert all(1 == done.stderr.count(f"latents[{k}].seed: is wrong") for k in range(5))


def test_bugs_say_where_to_look(command, fake):
    """An error that nobody but an operator can understand is exit code 1."""
    fake.fail_next(InternalError("bug", request_id="r1"))
    done = command("models")

    assert (1, "error: bug") == (done.exit_code, done.stderr.partition("\n")[0])


def test_full_servers_say_when_to_come_back(command, fake):
    """What may succeed later is exit code 3, with the time that the server gave."""
    fake.fail_next(OverloadedError("full", retry_after_seconds=90))
    done = command("models")

    assert (3, "error: full\n  try again in 90.0 s\n") == (done.exit_code, done.stderr)


def test_errors_are_json_for_programs(command, fake):
    """With --json an error is one object beside the output, with its reason."""
    fake.fail_next(ModelNotFoundError("no model 'x'"))
    done = command("generate", "--seeds", "1", "--out", "d", "--json")

    assert (1, "") == (done.exit_code, done.stdout)
    assert {"error": {"reason": "MODEL_NOT_FOUND", "message": "no model 'x'"}} == json.loads(done.stderr)


def test_unreachable_server_is_one_sentence(command):
    """When nobody answers the address is named; the server may come, so this is exit code 3."""
    done = command("models", "--address", "127.0.0.1:1")

    assert 3 == done.exit_code
    assert done.stderr.startswith("error: no server answers at 127.0.0.1:1")


def test_missing_token_is_one_sentence(command):
    """A file of the connection that is not there is named."""
    done = command("models", "--token-file", "no.txt")

    assert 1 == done.exit_code
    assert ["error: [Errno 2] No such file or directory: 'no.txt'"] == done.stderr.splitlines()


def test_interrupt_ends_quietly(fake):
    """Ctrl-C ends a waiting command with the shell's code for it and no traceback."""
    fake.gate.clear()
    line = with_default_signals([sys.executable, "-m", "stylewire.cli.main", "models", "--address", fake.address])
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        assert fake.arrived.wait(60)
        while process.poll() is None:  # one that comes while gRPC's C code sets the call up is lost
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        errors = process.stderr.read()

    assert (130, "") == (process.returncode, errors)


def test_bar_goes_to_the_terminal_and_results_to_the_pipe(fake, tmp_path):
    """With a terminal for errors only, the bar is there and what programs read is not."""
    terminal, end = pty.openpty()
    line = [sys.executable, "-m", "stylewire", "generate", "--seeds", "0-1", "--out", "d", "--json"]
    environment = {**os.environ, "STYLEWIRE_ADDRESS": fake.address, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=end, cwd=tmp_path, env=environment) as process:
        os.close(end)
        results = process.stdout.read()
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)

    assert ["d/seed0000.png", "d/seed0001.png"] == [json.loads(text)["file"] for text in results.splitlines()]
    assert "generate" in shown
    assert "2/2" in shown


def test_serve_hands_all_its_arguments_to_the_server(command, monkeypatch):
    """The server reads its own flags, --help included, and gives the exit code."""
    seen = []
    module = types.ModuleType("stylewire.server.main")
    module.main = lambda arguments: seen.append(arguments) or 3
    monkeypatch.setitem(sys.modules, "stylewire.server.main", module)
    done = command("serve", "--port", "0", "--models=m", "--help")

    assert (3, [["--port", "0", "--models=m", "--help"]]) == (done.exit_code, seen)


def test_serve_names_the_extra_it_needs():
    """Without the server's packages the command says what to install."""
    script = "import sys; sys.modules['prometheus_client'] = None; from stylewire.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "serve"], capture_output=True, text=True, check=False)

    assert (1, "") == (done.returncode, done.stdout)
    assert "the server needs prometheus_client: pip install 'stylewire[server,cpu]'\n" == done.stderr


def test_commands_below_models_are_there():
    """``models`` is a group of its own."""
    assert isinstance(loaded("models"), TyperGroup)
