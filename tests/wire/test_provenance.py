"""What the files of every call say about their origin, over a real connection."""

import numpy as np
import pytest
from typer.testing import CliRunner

from stylewire import Client, latents, pb
from stylewire.cli.main import app
from stylewire.media import codecs, xmp
from stylewire.media.codecs import ImageFormat
from stylewire.media.provenance import COMPOSITE, GENERATED, read
from stylewire.server.config.settings import Settings
from stylewire.tensors import to_tensor
from support.pictures import avatar, digest, pixels, sources
from support.servers import running_server

FORMATS = {
    ImageFormat.PNG: pb.IMAGE_FORMAT_PNG,
    ImageFormat.JPEG: pb.IMAGE_FORMAT_JPEG,
    ImageFormat.WEBP: pb.IMAGE_FORMAT_WEBP,
}
ALL_FORMATS = pytest.mark.parametrize("image_format", FORMATS.values(), ids=FORMATS)


@pytest.fixture(scope="module")
def silent_server(small_models):
    """The small models, without provenance."""
    with running_server(models=small_models, default_model="plain", provenance=False) as server:
        yield server


@pytest.fixture
def silent(silent_server):
    """A stub of ``silent_server``."""
    with silent_server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def generate(stub, *given, **request):
    return stub.Generate(pb.GenerateRequest(latents=given, **request))


@ALL_FORMATS
def test_generated_files_name_model_and_seed(demo, demo_server, image_format):
    """A file of every format is synthetic, by this model, from this seed."""
    output = pb.OutputConfig(format=image_format)
    reply = generate(demo, pb.Latent(seed=7, truncation=pb.Truncation(psi=0.7)), output_config=output)
    found = read(reply.images[0].content)

    assert found.synthetic
    assert (GENERATED, "avatars", reply.model_digest, "seed 7, psi 0.7") == (
        found.source_type,
        found.model,
        found.model_digest,
        found.source,
    )


def test_files_say_what_makes_the_picture_again(small):
    """Truncation, its layers and the noise belong to the seed."""
    given = [
        pb.Latent(seed=1),
        pb.Latent(seed=2, truncation=pb.Truncation()),
        pb.Latent(seed=3, truncation=pb.Truncation(psi=-0.5, layer_range=pb.LayerRange(start_layer=2, end_layer=5))),
    ]
    truncated = ["seed 1", "seed 2, psi 0.7", "seed 3, psi -0.5 on layers 2-4"]
    noises = {
        "": pb.Noise(strength=1),
        ", noise times 0.5": pb.Noise(strength=0.5),
        ", no noise": pb.Noise(mode=pb.Noise.MODE_NONE),
    }

    for words, noise in noises.items():
        assert [text + words for text in truncated] == sources(generate(small, *given, noise=noise).images)


def test_files_say_the_seed_of_their_own_noise(small):
    """Picture k has noise of seed + k."""
    noise = pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=40, strength=2)
    reply = generate(small, pb.Latent(seed=1), pb.Latent(seed=1), noise=noise)

    assert ["seed 1, noise seed 40 times 2.0", "seed 1, noise seed 41 times 2.0"] == sources(reply.images)


def test_files_of_a_conditional_model_say_the_class(small):
    """A class is named, a soft label has a digest."""
    label = np.array([0.5, 0.5, 0, 0, 0], np.float32)
    given = [pb.Latent(seed=1, class_index=3), pb.Latent(seed=1, label=to_tensor(label))]
    reply = generate(small, *given, model="classes")

    assert ["seed 1, class 3", f"seed 1, label {digest(label)}"] == sources(reply.images)


def test_files_of_codes_say_the_digest_of_the_code(small):
    """Whatever is no seed of the model is told by the code that is returned, after truncation."""
    truncation = pb.Truncation(psi=0.5)
    given = [
        pb.Latent(z=to_tensor(latents.sample_z(7, 16)), truncation=truncation),
        pb.Latent(w=to_tensor(np.arange(16, dtype=np.float32)), truncation=truncation),
        pb.Latent(seed=7, model="twin"),
    ]
    reply = generate(small, *given, return_codes=True, noise=pb.Noise(mode=pb.Noise.MODE_NONE))

    assert [f"code {digest(code)}, no noise" for code in reply.codes] == sources(reply.images)


def test_every_row_of_a_split_request_has_its_own_source(small):
    """A request that runs in several batches says of each picture what that picture is."""
    reply = generate(small, *(pb.Latent(seed=seed) for seed in range(100, 130)))

    assert [f"seed {seed}" for seed in range(100, 130)] == sources(reply.images)


def test_mixtures_say_the_digest_of_their_code(small):
    """A mixture is no seed any more."""
    style = pb.StyleSource(latent=pb.Latent(seed=2), layer_range=pb.LayerRange(start_layer=4))
    reply = small.MixStyles(pb.MixStylesRequest(content=pb.Latent(seed=1), styles=[style], return_code=True))

    assert [f"code {digest(reply.code)}"] == sources([reply.image])


@pytest.mark.parametrize("method", ["LERP", "SLERP", "CUBIC"])
def test_frames_say_the_digest_of_their_code(small, method):
    """Every frame has a code of its own, and the noise of all."""
    request = pb.InterpolateRequest(
        keyframes=[pb.Latent(seed=1), pb.Latent(seed=2)],
        frame_count=4,
        method=pb.InterpolateRequest.Method.Value(f"METHOD_{method}"),
        noise=pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=9),
        return_codes=True,
    )
    replies = list(small.Interpolate(request))
    expected = [f"code {digest(reply.code)}, noise seed 9" for reply in replies]

    assert 4 == len(set(expected))
    assert expected == sources(reply.image for reply in replies)


@ALL_FORMATS
def test_reconstruction_is_synthetic_and_the_photo_is_not(demo, image_format):
    """What the encoder saw is the caller's own picture: nothing is claimed about it."""
    request = pb.InvertRequest(
        image=pb.ImageSource(content=avatar()),
        return_reconstruction=True,
        output_config=pb.OutputConfig(format=image_format),
    )
    reply = demo.Invert(request)

    assert [f"code {digest(reply.code)}"] == sources([reply.reconstruction])
    assert read(reply.aligned.content) is None


def test_photos_of_generate_are_told_by_their_code(demo):
    """A picture made of a photo says nothing of the photo."""
    reply = generate(demo, pb.Latent(image=pb.ImageSource(content=avatar())), return_codes=True)

    assert [f"code {digest(reply.codes[0])}"] == sources(reply.images)


@pytest.mark.parametrize(
    ("model", "image_format"),
    [(model, each) for model in ("plain", "rgba") for each in FORMATS if (model, each) != ("rgba", ImageFormat.JPEG)],
)
def test_switched_off_files_are_the_bare_ones(small, silent, model, image_format):
    """Without provenance a file is byte for byte what the encoder writes; with it, that and the packet."""
    request = {"model": model, "output_config": pb.OutputConfig(format=FORMATS[image_format])}
    (marked,), (bare,) = (generate(stub, pb.Latent(seed=5), **request).images for stub in (small, silent))
    form = pb.OutputConfig(format=pb.IMAGE_FORMAT_PIXELS)
    (array,) = generate(silent, pb.Latent(seed=5), model=model, output_config=form).images

    assert codecs.encode(pixels(array), image_format) == bare.content
    assert xmp.embed(bare.content, xmp.extract(marked.content)) == marked.content
    assert np.array_equal(pixels(marked), pixels(bare))
    assert (marked.width_px, marked.height_px, marked.mime_type) == (bare.width_px, bare.height_px, bare.mime_type)


def test_switched_off_no_call_says_anything(silent):
    """Mixtures and frames are bare too."""
    style = pb.StyleSource(latent=pb.Latent(seed=2))
    mixed = silent.MixStyles(pb.MixStylesRequest(content=pb.Latent(seed=1), styles=[style])).image
    keyframes = [pb.Latent(seed=1), pb.Latent(seed=2)]
    frames = [reply.image for reply in silent.Interpolate(pb.InterpolateRequest(keyframes=keyframes, frame_count=2))]

    assert [None] * 3 == [read(image.content) for image in (mixed, *frames)]


@pytest.mark.parametrize("form", [pb.IMAGE_FORMAT_TENSOR, pb.IMAGE_FORMAT_PIXELS])
def test_arrays_are_the_same_with_and_without(small, silent, form):
    """Arrays have no place for it."""
    output = pb.OutputConfig(format=form)
    marked, bare = (generate(stub, pb.Latent(seed=5), output_config=output).images for stub in (small, silent))

    assert list(bare) == list(marked)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif"])
@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_saved_results_keep_what_the_server_wrote(demo_server, tmp_path, image_format, suffix):
    """Whatever a result is converted to says the same as the server's file."""
    with Client(demo_server.address) as client:
        result = client.generate(7, psi=0.5, format=image_format)[0]
    path = result.save(tmp_path / f"a.{suffix}")

    assert "seed 7, psi 0.5" == result.provenance.source
    assert result.provenance == read(path.read_bytes())


def test_results_that_say_nothing_stay_silent(silent_server, tmp_path):
    """The SDK adds nothing to the files of a server without provenance, or to arrays."""
    with Client(silent_server.address) as client:
        results = [client.generate(7, format=each)[0] for each in ("png", "pixels")]

    assert [None, None] == [result.provenance for result in results]
    assert [None, None] == [read(result.save(tmp_path / "a.webp").read_bytes()) for result in results]


def test_saved_files_of_other_formats_are_as_before(demo_server, tmp_path):
    """A format that cannot say it is still written."""
    with Client(demo_server.address) as client:
        path = client.generate(7)[0].save(tmp_path / "a.bmp")

    assert b"BM" == path.read_bytes()[:2]


@pytest.mark.parametrize(
    ("arguments", "file", "source"),
    [
        ("generate --seeds 0-3 --psi 0.7 --grid a.png", "a.png", "seed 0, psi 0.7; seed 1, psi 0.7; "),
        ("generate --seeds 4 --out d --format jpeg", "d/seed0004.jpeg", "seed 4"),
        ("mix --rows 1 --cols 2 --styles coarse --out a.jpg", "a.jpg", "seed 1; seed 2; code xxh3:"),
        ("interpolate --seeds 1,2 --frames 3 --out a.gif", "a.gif", "code xxh3:"),
        ("interpolate --seeds 1,2 --frames 3 --out a.webp", "a.webp", "code xxh3:"),
        ("interpolate --seeds 1,2 --frames 3 --out a.png", "a.png", "code xxh3:"),
        ("interpolate --seeds 1,2 --frames 60 --out a.gif", "a.gif", "60 pictures"),
    ],
)
def test_command_line_writes_synthetic_files(demo_server, folder, arguments, file, source):
    """Sheets, animations and single files name the model and what they show."""
    done = CliRunner().invoke(app, [*arguments.split(), "--address", demo_server.address], catch_exceptions=False)
    found = read((folder / file).read_bytes())

    assert 0 == done.exit_code
    assert (GENERATED, "avatars") == (found.source_type, found.model)
    assert found.source.startswith(source)


def test_sheet_of_inversions_is_a_composite(demo_server, folder):
    """Photos above reconstructions: a part of the sheet is synthetic; the reconstruction's own file is all of it."""
    (folder / "me.png").write_bytes(avatar())
    arguments = ["invert", "me.png", "--grid", "a.png", "--out", "d", "--address", demo_server.address]
    CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert COMPOSITE == read((folder / "a.png").read_bytes()).source_type
    assert GENERATED == read((folder / "d" / "me.png").read_bytes()).source_type


def test_setting_is_a_flag():
    """On unless it is switched off."""
    assert Settings.load([]).provenance
    assert not Settings.load(["--no-provenance"]).provenance
