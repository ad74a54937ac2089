import contextlib
import importlib.metadata
import json
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from stylewire import InternalError, InvalidFieldError, OverloadedError, Violation, pb, seed
from stylewire.cli import app
from support.fake_service import fake_server


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def opened(path):
    with PIL.Image.open(path) as picture:
        picture.load()
        return picture


@pytest.fixture
def server():
    with fake_server() as fake:
        yield fake


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    """Run a command against the fake server in an empty folder."""
    monkeypatch.setenv("STYLEWIRE_ADDRESS", server.address)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_generate_writes_a_grid(run, server):
    """A range of seeds becomes one sheet, about square."""
    done = run("generate", "--seeds", "0-3,9", "--psi", "0.7", "--grid", "grid.png")

    assert (0, "wrote grid.png\n") == (done.exit_code, done.stdout)
    assert [seed(number, psi=0.7) for number in (0, 1, 2, 3, 9)] == list(server.requests[0].latents)
    with PIL.Image.open("grid.png") as grid:
        assert (8 * 2 + 2, 8 * 3 + 4) == grid.size


def test_generate_writes_a_file_a_seed(run, server):
    """Files are named after their seeds, like those of NVIDIA's generate.py."""
    done = run("generate", "--seeds=7,12", "--out=d", "--format=jpeg", "--quality=80", "--class=3", "--noise=none")
    request = server.requests[0]

    assert 0 == done.exit_code
    assert ["seed0007.jpeg", "seed0012.jpeg"] == names("d")
    assert seed(7, class_index=3) == request.latents[0]
    assert (pb.Noise.MODE_NONE, pb.IMAGE_FORMAT_JPEG, 80) == (
        request.noise.mode,
        request.output_config.format,
        request.output_config.quality,
    )


def test_generate_splits_many_seeds(run, server):
    """Many seeds are several calls, and the files are in order."""
    done = run("generate", "--seeds", "0-39", "--out", "d")

    assert 0 == done.exit_code
    assert 40 == sum(len(request.latents) for request in server.requests)
    assert max(len(request.latents) for request in server.requests) <= 16
    assert 39 == opened("d/seed0039.png").getpixel((0, 0))[0]


def test_invert_asks_for_the_alignment(run, server):
    """--align asks for the crop of a face; several faces are mentioned."""
    PIL.Image.new("RGB", (4, 4)).save("a.png")
    done = run("invert", "a.png", "--align", "anime")

    assert pb.ALIGNMENT_ANIME == server.requests[0].image.alignment
    assert "the largest of 2 faces" in done.stdout


def test_invert_writes_code_and_reconstruction(run):
    """The code's file has the name and shape of NVIDIA's projected_w.npz."""
    PIL.Image.new("RGB", (4, 4)).save("a.png")
    done = run("invert", "a.png", "--out", "d", "--grid", "sheet.png")

    assert 0 == done.exit_code
    assert "a.png: code [10, 4], distortion 0.2500" in done.stdout
    with np.load("d/a.npz") as saved:
        code = saved["w"]
    assert (1, 10, 4) == code.shape
    assert code[0, 0, 0] == opened("d/a.png").getpixel((0, 0))[0]
    assert (8, 8 * 2 + 2) == opened("sheet.png").size


@pytest.mark.parametrize(
    ("styles", "ranges"),
    [("0-3", [(0, 4)]), ("middle", [(3, 7)]), ("0-1,9", [(0, 2), (9, 10)])],
    ids=["range", "role", "list"],
)
def test_mix_writes_a_matrix(run, server, styles, ranges):
    """Row heads stand left, column heads above, mixtures where they meet."""
    done = run("mix", "--rows", "10,20", "--cols", "1-3", "--styles", styles, "--out", "m.png", "--psi", "0.5")
    mixes = [request for request in server.requests if isinstance(request, pb.MixStylesRequest)]
    picture = np.asarray(opened("m.png"))[::10, ::10, 0]

    assert 0 == done.exit_code
    lent = len(ranges)
    assert [
        [255, 1, 2, 3],
        [10, 10 + lent, 10 + 2 * lent, 10 + 3 * lent],
        [20, 20 + lent, 20 + 2 * lent, 20 + 3 * lent],
    ] == picture.tolist()
    assert {tuple(ranges)} == {
        tuple((s.layer_range.start_layer, s.layer_range.end_layer) for s in mix.styles) for mix in mixes
    }
    assert {0.5} == {latent.truncation.psi for mix in mixes for latent in (mix.content, mix.styles[0].latent)}


def test_interpolate_writes_an_animation(run, server):
    """Frames of the stream become one file."""
    done = run(
        *("interpolate", "--seeds=1,2,3", "--frames=6", "--out=x.gif"),
        *("--method=cubic", "--easing=ease_in_out", "--loop"),
    )
    request = server.requests[0]

    assert 0 == done.exit_code
    with PIL.Image.open("x.gif") as animation:
        assert 6 == animation.n_frames
    assert (pb.InterpolateRequest.METHOD_CUBIC, pb.InterpolateRequest.EASING_EASE_IN_OUT, True, 6) == (
        request.method,
        request.easing,
        request.looped,
        request.frame_count,
    )


def test_interpolate_writes_frames_into_a_folder(run):
    """A path without a suffix is a folder of frames."""
    done = run("interpolate", "--seeds", "1,2", "--frames", "3", "--out", "frames")

    assert 0 == done.exit_code
    assert ["frame0000.png", "frame0001.png", "frame0002.png"] == names("frames")


def test_models_prints_a_table_or_json(run):
    """A person gets a table, a program JSON."""
    table, text = run("models"), run("models", "--json")

    assert 0 == table.exit_code == text.exit_code
    assert "a (default)" in table.stdout
    assert ["a.synthesis", "ncnn", "fp32", "12.3", "runs", "it"] in [line.split() for line in table.stdout.splitlines()]
    assert "openvino is not here" in " ".join(table.stdout.split())
    assert ["a", "b"] == [model["name"] for model in json.loads(text.stdout)]
    assert 64 == json.loads(text.stdout)[0]["layers"][9]["resolution_px"]


def test_version_is_the_packages(run):
    """The version comes from the installed package."""
    assert importlib.metadata.version("stylewire") == run("version").stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["generate", "--seeds", "1"], "say where to write"),
        (["generate", "--seeds", "1-x", "--out", "d"], "is not a seed such as"),
        (["generate", "--seeds", "9-1", "--out", "d"], "write 1-9"),
        (["generate", "--seeds", "0-999999", "--out", "d"], "the most is"),
        (["generate", "--seeds", "1", "--grid", "g.tiff"], "ends in none of"),
        (["generate", "--seeds", "1", "--out", "d", "--format", "gif"], "'gif' is not one of"),
        (["mix", "--rows", "1", "--cols", "1", "--styles", "corse", "--out", "m.png"], "coarse, middle, fine"),
        (["interpolate", "--seeds", "1,2", "--out", "x.avi"], "ends in none of"),
        (["interpolate", "--seeds", "1,2", "--out", "x.mp4", "--zoom", "2"], "players enlarge videos"),
        (["paint"], "No such command"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_usage_is_exit_code_2(run, server, arguments, text, monkeypatch):
    """A wrong command line says what is wrong and asks no server."""
    monkeypatch.setenv("COLUMNS", "200")
    done = run(*arguments)

    assert 2 == done.exit_code
    assert text in done.stderr
    assert [] == server.requests


def test_refused_requests_name_the_fields(run, server):
    """An error of the server is one sentence with every wrong field, and exit code 1."""
    violations = [Violation(f"latents[{k}].seed", "is wrong") for k in range(5)]
    server.failures.append(InvalidFieldError.of(violations))
    done = run("generate", "--seeds", "1", "--out", "d")

    assert (1, "") == (done.exit_code, done.stdout)
    assert all(1 == done.stderr.count(f"latents[{k}].seed: is wrong") for k in range(5))


def test_errors_say_what_helps(run, server):
    """When another try makes sense the error says when, and a bug says where to look."""
    server.failures += [
        OverloadedError("full", retry_after_seconds=90.5),
        InternalError("bug", request_id="r1"),
    ]

    assert "error: full\n  try again in 90.5 s\n" == run("models").stderr
    assert "error: bug" in run("models").stderr


def test_missing_file_is_one_sentence(run):
    """A picture that is not there is an error of one line."""
    done = run("invert", "no.png")

    assert 1 == done.exit_code
    assert 1 == len(done.stderr.splitlines())
    assert "no.png" in done.stderr


def test_unreachable_server_is_one_sentence(run):
    """When nobody answers the address is named."""
    done = run("models", "--address", "127.0.0.1:1")

    assert 1 == done.exit_code
    assert done.stderr.startswith("error: no server answers at 127.0.0.1:1")


def test_interrupt_ends_quietly(server):
    """Ctrl-C ends a waiting command with the shell's code for it and no traceback."""
    server.gate.clear()
    command = [sys.executable, "-m", "stylewire.cli", "models", "--address", server.address]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert server.arrived.wait(60)
        while process.poll() is None:  # one that comes while gRPC's C code sets the call up is lost
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        errors = process.stderr.read()

    assert (130, "") == (process.returncode, errors)


def test_serve_hands_all_its_arguments_to_the_server(run, monkeypatch):
    """The server reads its own flags, --help included, and gives the exit code."""
    seen = []
    module = types.ModuleType("stylewire.server.app")
    module.main = lambda arguments: seen.append(arguments) or 3
    monkeypatch.setitem(sys.modules, "stylewire.server.app", module)
    done = run("serve", "--port", "0", "--models=m", "--help")

    assert (3, [["--port", "0", "--models=m", "--help"]]) == (done.exit_code, seen)


def test_serve_names_the_extra_it_needs():
    """Without the server's packages the command says what to install."""
    script = "import sys; sys.modules['prometheus_client'] = None; from stylewire.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "serve"], capture_output=True, text=True, check=False)

    assert (1, "") == (done.returncode, done.stdout)
    assert "the server needs prometheus_client: pip install 'stylewire[server,cpu]'\n" == done.stderr
