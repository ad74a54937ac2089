"""The command line against a real server."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

import stylewire
from stylewire import load_code
from stylewire.cli.main import app
from stylewire.testing.launcher import with_default_signals
from support.gates import held
from support.scrape import Scrape, wait_for

SAMPLES = Path(stylewire.__file__).parent / "demo" / "samples"


def cancelled(scrape, method):
    return scrape.count("grpc_server_handled_total", grpc_method=method, grpc_code="CANCELLED")


@pytest.fixture
def run(demo_server, tmp_path, monkeypatch):
    """Run a command against the demo models, in an empty folder."""
    monkeypatch.setenv("STYLEWIRE_ADDRESS", demo_server.address)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("Generate", ["generate", "--seeds", "0-9999", "--out", "d"]),
        ("Interpolate", ["interpolate", "--seeds", "1,2", "--frames", "1000", "--out", "d"]),
        ("MixStyles", ["mix", "--rows", "0-9", "--cols", "0-999", "--styles", "fine", "--out", "m.png"]),
    ],
)
def test_interrupt_cancels_on_the_server(demo_server, tmp_path, method, arguments):
    """Ctrl-C ends long work within moments: the server is told, and counts its calls as cancelled."""
    before = cancelled(Scrape(demo_server.metrics_url), method)
    started = Scrape(demo_server.metrics_url).count("grpc_server_started_total", grpc_method=method)
    environment = {**os.environ, "STYLEWIRE_ADDRESS": demo_server.address}
    line = with_default_signals([sys.executable, "-m", "stylewire", *arguments])
    with subprocess.Popen(
        line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for(
            demo_server.metrics_url, lambda now: now.count("grpc_server_started_total", grpc_method=method) > started
        )
        with held(demo_server, "synthesis") as gate:  # else all calls may have ended when the signal arrives
            gate.wait_for(batches=1)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)

    assert (130, b"") == (process.returncode, errors)
    wait_for(demo_server.metrics_url, lambda now: cancelled(now, method) > before)
    for path in tmp_path.rglob("*.*"):  # whatever was written is whole
        with PIL.Image.open(path) as picture:
            picture.load()


def test_pictures_of_a_person_go_round(run):
    """What invert saves, generate draws: the same picture as the reconstruction."""
    first = run("invert", str(SAMPLES / "avatar00.png"), "--out", "codes", "--json")
    second = run("generate", "--code", "codes/avatar00.npz", "--out", "drawn")

    assert (0, 0) == (first.exit_code, second.exit_code)
    assert json.loads(first.stdout.splitlines()[0])["shape"] == list(load_code("codes/avatar00.npz").shape)
    with PIL.Image.open("codes/avatar00.png") as found, PIL.Image.open("drawn/avatar00.png") as drawn:
        assert np.abs(np.asarray(found, int) - np.asarray(drawn, int)).max() <= 1


def test_toonify_draws_with_the_other_demo_model(run):
    """The demo's second model draws what the first one reads, and with a seed's fine layers something else."""
    sample = str(SAMPLES / "avatar00.png")
    plain = run("toonify", sample, "--from", "avatars", "--to", "pixels", "--out", "plain", "--grid", "g.png")
    styled = run(
        "toonify", sample, "--from", "avatars", "--to", "pixels", "--style", "7", "--layers", "16px", "--out", "s"
    )

    assert (0, 0) == (plain.exit_code, styled.exit_code)
    with PIL.Image.open("plain/avatar00.png") as one, PIL.Image.open("s/avatar00.png") as other:
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).mean() > 1


def test_sheets_of_photos_say_that_parts_of_them_are_synthetic(run):
    """A sheet with a person's own picture on it is a composite, and a grid of seeds is not."""
    run("invert", str(SAMPLES / "avatar00.png"), "--grid", "sheet.png")
    run("generate", "--seeds", "1-2", "--grid", "grid.png")
    found = json.loads(run("inspect", "sheet.png", "grid.png", "--json").stdout)

    assert ["compositeSynthetic", "trainedAlgorithmicMedia"] == [
        each["source_type"].rpartition("/")[2] for each in found
    ]


def test_classes_and_sizes_reach_the_model(small_server, run):
    """A conditional model makes another picture of each class, in the size that was asked for."""
    done = run(
        *("generate", "--seeds", "1", "--class", "0-4", "--model", "classes", "--size", "16"),
        *("--out", "d", "--address", small_server.address),
    )
    contents = {path.read_bytes() for path in Path("d").iterdir()}

    assert (0, 5) == (done.exit_code, len(contents))
    with PIL.Image.open("d/seed0001-class003.png") as picture:
        assert (16, 16) == picture.size


@pytest.mark.parametrize("name", ["walk.mp4", "walk.webm"])
def test_interpolate_writes_videos(run, name):
    """The suffix decides the container, and the whole walk is in it."""
    av = pytest.importorskip("av", reason="the extra [video] is not installed")
    done = run("interpolate", "--seeds", "1,2", "--frames", "7", "--fps", "12", "--out", name, "--json")

    assert (0, {"file": name, "frames": 7}) == (
        done.exit_code,
        {key: value for key, value in json.loads(done.stdout).items() if key in ("file", "frames")},
    )
    with av.open(name) as film:
        assert 7 == sum(1 for _ in film.decode(video=0))


def test_project_comes_closer_step_by_step(run):
    """Each step is told to programs; what is found is nearer than what the encoder gave, and saved with its target."""
    pytest.importorskip("torch", reason="the extra [torch] is not installed")
    sample = str(SAMPLES / "avatar00.png")
    done = run("project", sample, "--steps", "4", "--out", "codes", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = next(line for line in lines if "start_distortion" in line)

    assert 0 == done.exit_code
    assert 0 == next(line["step"] for line in lines if "step" in line)
    assert found["distortion"] < found["start_distortion"]
    assert load_code("codes/avatar00.npz").ndim == 2
    assert ["avatar00-target.png", "avatar00.npz", "avatar00.png"] == sorted(p.name for p in Path("codes").iterdir())


def test_interrupt_of_a_projection_is_told_to_the_server(demo_server, tmp_path):
    """A projection of a thousand steps ends with the caller."""
    pytest.importorskip("torch", reason="the extra [torch] is not installed")
    before = cancelled(Scrape(demo_server.metrics_url), "Project")
    line = [sys.executable, "-m", "stylewire", "project", str(SAMPLES / "avatar00.png"), "--steps", "1000"]
    environment = {**os.environ, "STYLEWIRE_ADDRESS": demo_server.address}
    with subprocess.Popen(
        with_default_signals([*line, "--out", "d", "--json"]),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert b'"step": ' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    assert (130, b"") == (process.returncode, errors)
    wait_for(demo_server.metrics_url, lambda now: cancelled(now, "Project") > before)
