"""A hostile server against the command line: what it says moves no cursor, colours nothing and fakes no line."""

import grpc
import PIL.Image
import pytest
from typer.testing import CliRunner

from stylewire import pb
from stylewire.cli.main import app
from stylewire.testing import FakeServer, model

EVIL = "\x1b]0;owned\x07\x1b[31mred\x1b[2J\u202e\x9b31m[bold]b[/bold]"
OBEYED = ["\x1b", "\x07", "\r", "\x9b", "\u202e"]
COMMANDS = {
    "models": ["models"],
    "error": ["generate", "--seeds", "666", "--out", "out"],
    "error as JSON": ["generate", "--seeds", "666", "--out", "out", "--json"],
    "result as JSON": ["generate", "--seeds", "1", "--out", "out", "--json"],
    "invert": ["invert", "in.png", "--out", "codes"],
    "bench": ["bench", "--seconds", "0.3", "--concurrency", "1"],
}


class EvilServer(FakeServer):
    """Names everything so that a terminal would obey it."""

    def Generate(self, request, context):  # noqa: N802
        if request.latents[0].seed == 666:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"bad {EVIL}\nerror: a line of its own\rX")
        response = super().Generate(request, context)
        response.model_digest = EVIL
        return response


@pytest.fixture(scope="module")
def server():
    names = dict.fromkeys(("version", "latent_space", "backend", "device", "precision", "digest", "license"), EVIL)
    evil = model(f"evil{EVIL}\nfake", default_model=True, **names)
    size = {"input_height_px": 64, "input_width_px": 64, "input_channels": 3}
    evil.encoders.add(name=f"encoder{EVIL}", input_kind="photo", **size)
    evil.runtimes.append(pb.Model.Runtime(graph=f"synthesis{EVIL}", backend=EVIL, problem=EVIL))
    with EvilServer(models=[evil]) as server:
        yield server


@pytest.mark.parametrize("name", COMMANDS)
def test_terminal_obeys_nothing_that_a_server_says(server, tmp_path, monkeypatch, name):
    """Sequences, marks of direction and line breaks are shown as escapes, in tables, errors and results."""
    monkeypatch.chdir(tmp_path)
    PIL.Image.new("RGB", (64, 64)).save("in.png")
    done = CliRunner().invoke(app, [*COMMANDS[name], "--address", server.address], env={"COLUMNS": "400"})

    assert done.output
    assert [] == [each for each in OBEYED if each in done.output]
    assert not any(line.startswith(("error: a line", "fake")) for line in done.output.splitlines())
    if name == "models":
        assert "[bold]b[/bold]" in done.output  # no markup either
