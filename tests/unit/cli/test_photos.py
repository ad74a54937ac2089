"""``stylewire invert`` and ``toonify`` against a fake server."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from stylewire import InvalidFieldError, NoFaceError, UnsupportedError, Violation, load_code, pb, seed, w_plus


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def opened(path):
    with PIL.Image.open(path) as picture:
        picture.load()
        return picture


@pytest.fixture
def photos(command):
    """A folder with three pictures of other levels, and something that is none."""
    Path("photos").mkdir()
    for name, level in (("a.png", 10), ("b.JPG", 20), ("c.webp", 30)):
        PIL.Image.new("RGB", (4, 2), (level, level, level)).save(f"photos/{name}", quality=100)
    Path("photos/notes.txt").write_text("no picture")
    return Path("photos")


def test_invert_writes_codes_and_reconstructions(command, photos):
    """A folder's pictures are inverted; a code's file has the name and shape of NVIDIA's projected_w.npz."""
    done = command("invert", "photos", "--out", "d")

    assert 0 == done.exit_code
    assert "photos/a.png: code [10, 4], distortion 0.2500" == done.stdout.splitlines()[0]
    assert ["a.npz", "a.png", "b.npz", "b.png", "c.npz", "c.png"] == names("d")
    with np.load("d/a.npz") as saved:
        assert (1, 10, 4) == saved["w"].shape
    assert load_code("d/a.npz")[0, 0] == opened("d/a.png").getpixel((0, 0))[0]


def test_invert_shows_original_aligned_and_reconstruction(command, photos):
    """The sheet has a line a picture: as it was, as the encoder saw it, as the generator draws it."""
    done = command("invert", "photos/*", "--grid", "sheet.png")

    assert (0, 1) == (done.exit_code, len(done.stdout.splitlines()) - 3)
    sheet = opened("sheet.png")
    assert (8 * 3 + 4, 8 * 3 + 4) == sheet.size
    assert [10, 20, 30] == pytest.approx([sheet.getpixel((4, 10 * row + 1))[0] for row in range(3)], abs=2)


def test_invert_asks_for_the_alignment(command, fake):
    """--align asks for the crop of a face; several faces are mentioned."""
    PIL.Image.new("RGB", (4, 4)).save("a.png")
    done = command("invert", "a.png", "--align", "anime")

    assert pb.ALIGNMENT_ANIME == fake.requests[0].image.alignment
    assert "the largest of 2 faces" in done.stdout


def test_invert_goes_on_behind_a_picture_it_cannot_read(command, fake):
    """What is wrong with one picture is said beside its name, the others are inverted, and the exit code is 1."""
    PIL.Image.new("RGB", (4, 4)).save("a.png")
    fake.fail_next(NoFaceError("no face was found"))
    done = command("invert", "a.png", "none.png", "a.png", "--align", "face")

    assert (1, "") == (done.exit_code, done.stdout)
    assert ["a.png: no face was found", "none.png: [Errno 2] No such file or directory: 'none.png'"] == sorted(
        done.stderr.splitlines()
    )
    assert [pb.ALIGNMENT_FACE] == [request.image.alignment for request in fake.requests]


def test_invert_tells_programs_of_each_picture(command, fake):
    """With --json each picture is an object, one that failed has its error in it."""
    for name in ("a.png", "b.png"):
        PIL.Image.new("RGB", (4, 4)).save(name)
    fake.fail_next(InvalidFieldError.of([Violation("image.content", "is wrong")]))
    done = command("invert", "a.png", "--json")

    assert 1 == done.exit_code
    assert {
        "file": "a.png",
        "error": {
            "reason": "INVALID_FIELD",
            "message": "image.content: is wrong",
            "violations": [{"field": "image.content", "description": "is wrong"}],
        },
    } == json.loads(done.stdout)

    found = json.loads(command("invert", "b.png", "--json").stdout)

    assert ("b.png", [10, 4], 0.25, None) == tuple(found[key] for key in ("picture", "shape", "distortion", "faces"))


def test_invert_stops_at_what_concerns_all(command, fake, photos):
    """A model without an encoder is said once."""
    fake.fail_next(UnsupportedError("model a has no encoder"))
    done = command("invert", "photos/a.png")

    assert (1, "error: model a has no encoder\n") == (done.exit_code, done.stderr)


def test_invert_never_writes_over_its_input(command, fake, photos):
    """Reconstructions have the names of the pictures, so their folder may not be the pictures'."""
    done = command("invert", "photos/a.png", "--out", "photos")

    assert 2 == done.exit_code
    assert "photos/a.png would be written over what is read" in " ".join(done.stderr.split())
    assert [] == fake.requests


def test_toonify_draws_with_another_model(command, fake, photos):
    """One model reads, the other draws the same code."""
    done = command(
        *("toonify", "photos/a.png", "--from", "faces", "--to", "toons", "--psi", "0.8"),
        *("--out", "d", "--grid", "sheet.png"),
    )
    read, drawn = fake.requests
    with PIL.Image.open("d/a.png") as picture:
        assert (8, 8) == picture.size
    assert (0, "wrote d/a.png\nwrote sheet.png\n") == (done.exit_code, done.stdout)
    assert ("faces", "toons", True) == (read.model, drawn.model, drawn.latents[0].HasField("w_plus"))
    assert 0.8 == drawn.latents[0].truncation.psi
    assert (8 * 3 + 4, 8) == opened("sheet.png").size


def test_toonify_takes_layers_from_elsewhere(command, fake, photos):
    """The colors of a seed, by its fine layers unless others are named."""
    done = command("toonify", "photos/a.png", "--to", "toons", "--style", "7", "--weight", "0.5", "--out", "d")
    mixed = fake.requests[-1]

    assert 0 == done.exit_code
    assert (seed(7), 0.5, 7) == (
        mixed.styles[0].latent,
        mixed.styles[0].weight,
        mixed.styles[0].layer_range.start_layer,
    )
    assert mixed.content != w_plus(np.zeros((10, 4)))
