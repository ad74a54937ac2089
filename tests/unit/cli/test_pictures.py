"""``stylewire generate``, ``mix`` and ``interpolate`` against a fake server."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from stylewire import InternalError, pb, save_code, seed, w_plus
from stylewire.latents import layer_resolutions
from stylewire.testing import DIGEST

CODE = np.full((len(layer_resolutions(64)), 4), 0.5, np.float32)  # [L, D]


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def opened(path):
    with PIL.Image.open(path) as picture:
        picture.load()
        return picture


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def latents(fake):
    """Several calls are in flight at once, so their order says nothing."""
    made = [latent for request in fake.requests for latent in request.latents]
    return sorted(made, key=lambda latent: latent.seed)


def test_generate_writes_a_grid(command, fake):
    """A range of seeds becomes one sheet, about square."""
    done = command("generate", "--seeds", "0-3,9", "--psi", "0.7", "--grid", "grid.png")

    assert (0, "wrote grid.png\n") == (done.exit_code, done.stdout)
    assert [seed(number, psi=0.7) for number in (0, 1, 2, 3, 9)] == latents(fake)
    assert (8 * 2 + 2, 8 * 3 + 4) == opened("grid.png").size


def test_generate_writes_a_file_a_seed(command, fake):
    """Files are named after their seeds, like those of NVIDIA's generate.py."""
    options = ("--format=jpeg", "--quality=80", "--size=32", "--class=3", "--noise=none")
    done = command("generate", "--seeds=7,12", "--out=d", *options)
    request = fake.requests[0]

    assert 0 == done.exit_code
    assert ["seed0007.jpeg", "seed0012.jpeg"] == names("d")
    assert seed(7, class_index=3) == latents(fake)[0]
    assert pb.Noise.MODE_NONE == request.noise.mode
    assert pb.OutputConfig(format=pb.IMAGE_FORMAT_JPEG, quality=80, resolution_px=32) == request.output_config


def test_generate_makes_each_seed_with_each_class(command, fake):
    """Several classes are in the names of the files, and a row each on the sheet."""
    done = command("generate", "--seeds", "1-3", "--class", "4,6", "--out", "d", "--grid", "grid.png")

    assert 0 == done.exit_code
    assert [f"seed000{number}-class00{each}.png" for number in (1, 2, 3) for each in (4, 6)] == names("d")
    assert (8 * 3 + 4, 8 * 2 + 2) == opened("grid.png").size


def test_generate_draws_saved_codes(command, fake):
    """Codes of a folder are drawn as they are, each in a file of its name; a file of several gives several."""
    Path("codes").mkdir()
    save_code("codes/me.npz", CODE)
    np.savez("codes/you.npz", w=np.stack([CODE, CODE]))
    done = command("generate", "--code", "codes", "--out", "d", "--psi", "0.5")

    assert 0 == done.exit_code
    assert ["me.png", "you-0000.png", "you-0001.png"] == names("d")
    assert [w_plus(CODE, psi=0.5)] * 3 == latents(fake)


def test_generate_refuses_pickled_codes(command):
    """A file that could run something is named, with a way to convert it."""
    np.savez("old.npz", w=np.array([{}], dtype=object))
    done = command("generate", "--code", "old.npz", "--out", "d")

    assert 2 == done.exit_code
    assert "old.npz cannot be read: it holds pickled Python objects" in " ".join(done.stderr.replace("│", " ").split())


def test_generate_makes_many_in_order(command, fake):
    """Many seeds are several calls, and the files are in order."""
    done = command("generate", "--seeds", "0-39", "--out", "d")

    assert 0 == done.exit_code
    assert [f"wrote d/seed{number:04d}.png" for number in range(40)] == done.stdout.splitlines()
    assert 39 == opened("d/seed0039.png").getpixel((0, 0))[0]
    assert len(fake.requests) > 1


def test_generate_goes_on_where_it_ended(command, fake):
    """With --skip-existing what is there is neither asked for nor written."""
    Path("d").mkdir()
    Path("d/seed0001.png").write_bytes(b"old")
    done = command("generate", "--seeds", "0-2", "--out", "d", "--skip-existing")

    assert (0, "1 of 3 files are there\n") == (done.exit_code, done.stderr)
    assert [0, 2] == [latent.seed for latent in latents(fake)]
    assert b"old" == Path("d/seed0001.png").read_bytes()


def test_generate_replaces_what_it_was_told_to_write(command):
    """A file of an earlier run is replaced, and nothing else is left beside it."""
    Path("grid.png").write_bytes(b"old")
    done = command("generate", "--seeds", "5", "--grid", "grid.png")

    assert 0 == done.exit_code
    assert (["grid.png"], 5) == (names("."), opened("grid.png").getpixel((0, 0))[0])


def test_generate_keeps_what_was_made_before_an_error(command, fake):
    """When a later call fails, the files of the earlier ones are there, whole, and the old ones are as they were."""
    Path("d").mkdir()
    Path("d/seed0039.png").write_bytes(b"old")
    fake.failures += [None, None, InternalError("bug")]  # of three calls the first two are answered
    done = command("generate", "--seeds", "0-39", "--out", "d")

    assert (1, "error: bug") == (done.exit_code, done.stderr.partition("\n")[0])
    assert done.stdout.splitlines() == [f"wrote d/{name}" for name in names("d")[:-1]]
    assert b"old" == Path("d/seed0039.png").read_bytes()


def test_generate_tells_programs_what_it_wrote(command):
    """With --json each file is an object: what it shows, where it comes from, where the time went."""
    done = command("generate", "--seeds", "7", "--out", "d", "--grid", "g.png", "--json")
    first, last = lines(done)

    assert 0 == done.exit_code
    assert {"file": "g.png", "pictures": 1} == last
    assert {
        "file": "d/seed0007.png",
        "seed": 7,
        "width_px": 8,
        "height_px": 8,
        "model_digest": DIGEST,
        "batch_size": 1,
        "queue_seconds": 0.001,
        "inference_seconds": 0.002,
        "encoding_seconds": 0.003,
    } == first


@pytest.mark.parametrize(
    ("styles", "ranges"),
    [
        ("0-3", [(0, 4)]),
        ("middle", [(3, 7)]),
        ("16-32px", [(3, 7)]),
        ("64px", [(7, 10)]),
        ("0-1,9", [(0, 2), (9, 10)]),
    ],
)
def test_mix_writes_a_matrix(command, fake, styles, ranges):
    """Row heads stand left, column heads above, mixtures where they meet."""
    done = command("mix", "--rows", "10,20", "--cols", "1-3", "--styles", styles, "--out", "m.png", "--psi", "0.5")
    mixes = [request for request in fake.requests if isinstance(request, pb.MixStylesRequest)]
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


def test_mix_takes_codes_and_pictures(command, fake):
    """A row may be a file: a code is used as it is, a picture is inverted once, and truncation is for seeds."""
    save_code("me.npz", CODE)
    PIL.Image.new("RGB", (4, 4)).save("you.png")
    done = command(
        *("mix", "--rows", "me.npz,you.png", "--cols", "1-2", "--styles", "fine"),
        *("--out", "m.png", "--psi", "0.5", "--weight", "0.25"),
    )
    mixes = [request for request in fake.requests if isinstance(request, pb.MixStylesRequest)]

    assert 0 == done.exit_code
    assert 1 == sum(isinstance(request, pb.InvertRequest) for request in fake.requests)
    assert [True, True, True, True] == [mix.content.HasField("w_plus") for mix in mixes]
    assert 2 == sum(mix.content == w_plus(CODE) for mix in mixes)
    assert {(0.5, 0.25)} == {(mix.styles[0].latent.truncation.psi, mix.styles[0].weight) for mix in mixes}


def test_interpolate_writes_an_animation(command, fake):
    """Frames of the stream become one file."""
    done = command(
        *("interpolate", "--seeds=1,2,3", "--frames=6", "--out=x.gif"),
        *("--method=cubic", "--easing=ease_in_out", "--loop", "--json"),
    )
    request = fake.requests[0]

    assert 0 == done.exit_code
    with PIL.Image.open("x.gif") as animation:
        assert 6 == animation.n_frames
    assert [{"file": "x.gif", "frames": 6, "model_digest": DIGEST}] == lines(done)
    assert (pb.InterpolateRequest.METHOD_CUBIC, pb.InterpolateRequest.EASING_EASE_IN_OUT, True, 6) == (
        request.method,
        request.easing,
        request.looped,
        request.frame_count,
    )


def test_interpolate_writes_frames_into_a_folder(command):
    """A path without a suffix is a folder of frames."""
    done = command("interpolate", "--seeds", "1,2", "--frames", "3", "--out", "frames")

    assert 0 == done.exit_code
    assert ["frame0000.png", "frame0001.png", "frame0002.png"] == names("frames")


def test_interpolate_walks_from_files(command, fake):
    """Keyframes may be codes."""
    save_code("me.npz", CODE)
    done = command("interpolate", "--points", "7,me.npz", "--psi", "0.5", "--frames", "2", "--out", "x.webp")

    assert 0 == done.exit_code
    assert [seed(7, psi=0.5), w_plus(CODE)] == list(fake.requests[0].keyframes)
