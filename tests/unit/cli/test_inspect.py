"""``stylewire inspect`` on files of all kinds."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from stylewire.cli.commands import inspect
from stylewire.cli.main import app
from stylewire.media import xmp
from stylewire.media.provenance import GENERATED, SOURCE_TYPES, Provenance, packet
from support.pictures import saved

PICTURE = PIL.Image.fromarray(np.zeros((6, 8, 3), np.uint8))
OURS = Provenance(
    source_type=GENERATED, model="avatars", model_digest="sha256:5a", source="seed 7", software="stylewire 1"
)
PHOTO = Provenance(source_type=SOURCE_TYPES + "digitalCapture", software="Camera")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An own folder: names are printed as they were given."""
    monkeypatch.chdir(tmp_path)


def write(name, image_format="PNG", origin=OURS, **options):
    """Write a file that says this."""
    content = saved(PICTURE, image_format, **options)
    Path(name).write_bytes(xmp.embed(content, packet(origin)) if origin else content)
    return name


def run(*arguments):
    return CliRunner().invoke(app, ["inspect", *arguments], catch_exceptions=False)


def test_inspect_prints_what_a_file_says():
    """Format, size, and everything about the origin."""
    done = run(write("a.png"))

    assert 0 == done.exit_code
    assert [
        "a.png: PNG 8 x 6 px, synthetic (trainedAlgorithmicMedia)",
        "  model    avatars",
        "  digest   sha256:5a",
        "  source   seed 7",
        "  software stylewire 1",
    ] == done.stdout.splitlines()


def test_inspect_prints_json():
    """The same for programs."""
    done = run("--json", write("a.jpg", "JPEG"), write("b.webp", "WEBP", None))

    assert 1 == done.exit_code
    assert [
        {
            "file": "a.jpg",
            "format": "JPEG",
            "width_px": 8,
            "height_px": 6,
            "synthetic": True,
            "source_type": GENERATED,
            "model": "avatars",
            "model_digest": "sha256:5a",
            "source": "seed 7",
            "software": "stylewire 1",
        },
        {"file": "b.webp", "format": "WEBP", "width_px": 8, "height_px": 6, "synthetic": False},
    ] == json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "image_format", "options"),
    [
        ("a.png", "PNG", {}),
        ("a.jpg", "JPEG", {}),
        ("a.webp", "WEBP", {}),
        ("a.gif", "GIF", {}),
        ("walk.gif", "GIF", {"save_all": True, "append_images": [PIL.Image.new("RGB", (8, 6), "red")]}),
        ("walk.webp", "WEBP", {"save_all": True, "append_images": [PIL.Image.new("RGB", (8, 6), "red")]}),
        ("walk.png", "PNG", {"save_all": True, "append_images": [PIL.Image.new("RGB", (8, 6), "red")]}),
    ],
)
def test_inspect_knows_all_formats(name, image_format, options):
    """Every format that we write, animations too."""
    done = run(write(name, image_format, **options))

    assert 0 == done.exit_code
    assert f"{name}: {image_format} 8 x 6 px, synthetic" in done.stdout


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (None, "not marked as synthetic or recorded"),
        (Provenance(source_type="", software="Painter"), "not marked as synthetic or recorded"),
        (PHOTO, "not synthetic (digitalCapture)"),
    ],
)
def test_inspect_claims_nothing_about_other_pictures(origin, words):
    """A file that is silent, or says that it is a photo, makes the exit code 1, beside one that is synthetic too."""
    done = run(write("ours.png"), write("b.png", origin=origin))

    assert 1 == done.exit_code
    assert f"b.png: PNG 8 x 6 px, {words}" in done.stdout


def test_inspect_goes_on_behind_a_file_it_cannot_read():
    """What is wrong with a file is said beside its name; the others are shown."""
    Path("text.png").write_text("hello")
    Path("cut.gif").write_bytes(b"GIF89a")
    done = run("none.png", "text.png", "cut.gif", write("a.png"))

    assert 1 == done.exit_code
    assert [
        "none.png: No such file or directory",
        "text.png: the content is not a picture of a known format",
        "cut.gif: the picture is damaged or truncated",
    ] == [line.partition(" (")[0] for line in done.stderr.splitlines()]
    assert "a.png: PNG 8 x 6 px, synthetic" in done.stdout


def test_inspect_tells_errors_to_programs():
    """In JSON an error is a field of its file."""
    done = run("--json", "none.png")

    assert [{"file": "none.png", "error": "No such file or directory"}] == json.loads(done.stdout)


def test_inspect_does_not_read_huge_files(monkeypatch):
    """A file beyond the limit is refused by its size."""
    monkeypatch.setattr(inspect, "MAX_FILE_BYTES", 50)

    assert "a.png: the file is larger than" in run(write("a.png")).stderr
