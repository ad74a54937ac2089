import asyncio
import inspect

import numpy as np
import PIL.Image
import pytest

from stylewire import (
    AsyncClient,
    Client,
    DeadlineError,
    InvalidFieldError,
    ModelNotFoundError,
    OverloadedError,
    Timing,
    UnreachableError,
    Violation,
    layers,
    noise,
    pb,
    seed,
    style,
)
from support.fake_service import DIGEST, asked

OUTPUT = pb.OutputConfig(format=pb.IMAGE_FORMAT_PNG)
CONST = pb.Noise(mode=pb.Noise.MODE_CONST)


def test_generate_sends_what_it_was_told(server, client):
    """Every argument lands in its field."""
    client.generate(
        [7, seed(8, psi=0.1)],
        model="m",
        psi=0.5,
        noise=noise("random", seed=1),
        format="jpeg",
        quality=80,
        resolution_px=32,
        return_codes=True,
    )
    expected = pb.GenerateRequest(
        model="m",
        latents=[seed(7, psi=0.5), seed(8, psi=0.1)],
        noise=pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=1),
        output_config=pb.OutputConfig(format=pb.IMAGE_FORMAT_JPEG, quality=80, resolution_px=32),
        return_codes=True,
    )

    assert [expected] == server.requests


def test_generate_without_options_asks_for_little(server, client):
    """Nothing is sent that was not asked for."""
    client.generate(7)

    assert [pb.GenerateRequest(latents=[pb.Latent(seed=7)], noise=CONST, output_config=OUTPUT)] == server.requests


def test_layers_are_looked_up_again_when_the_model_was_replaced(server, client):
    """An answer of another digest than the described model's says that what is known of its layers is old."""
    server.digest = "sha256:old"
    for _ in range(2):
        client.mix_styles(1, style(2, layers("fine")))
        server.digest = DIGEST
    client.mix_styles(1, style(2, layers("fine")))

    assert 2 == sum(isinstance(request, pb.GetModelRequest) for request in server.requests)


def test_mix_styles_looks_up_layers_once(server, client):
    """Named layers cost one GetModel a model, spans none."""
    client.mix_styles(1, style(2, (0, 4), weight=0.5), return_code=True)
    client.mix_styles(1, [style(2, layers("middle")), 3], model="b", psi=0.5)
    client.mix_styles(1, style(2, layers("fine")), model="b")
    expected = [
        pb.MixStylesRequest(
            content=seed(1),
            styles=[pb.StyleSource(latent=seed(2), layer_range=pb.LayerRange(start_layer=0, end_layer=4), weight=0.5)],
            noise=CONST,
            output_config=OUTPUT,
            return_code=True,
        ),
        pb.GetModelRequest(name="b"),
        pb.MixStylesRequest(
            model="b",
            content=seed(1, psi=0.5),
            styles=[
                pb.StyleSource(latent=seed(2, psi=0.5), layer_range=pb.LayerRange(start_layer=3, end_layer=7)),
                pb.StyleSource(latent=seed(3, psi=0.5)),
            ],
            noise=CONST,
            output_config=OUTPUT,
        ),
        pb.MixStylesRequest(
            model="b",
            content=seed(1),
            styles=[pb.StyleSource(latent=seed(2), layer_range=pb.LayerRange(start_layer=7, end_layer=10))],
            noise=CONST,
            output_config=OUTPUT,
        ),
    ]

    assert expected == server.requests


def test_interpolate_sends_what_it_was_told(server, client):
    """Every argument lands in its field."""
    list(client.interpolate([1, 2], 3, method="cubic", easing="ease_in_out", looped=True, noise="none", psi=0.5))
    expected = pb.InterpolateRequest(
        keyframes=[seed(1, psi=0.5), seed(2, psi=0.5)],
        frame_count=3,
        method=pb.InterpolateRequest.METHOD_CUBIC,
        easing=pb.InterpolateRequest.EASING_EASE_IN_OUT,
        looped=True,
        noise=pb.Noise(mode=pb.Noise.MODE_NONE),
        output_config=OUTPUT,
    )

    assert [expected] == server.requests


def test_invert_sends_what_it_was_told(server, client):
    """Every argument lands in its field."""
    client.invert(b"x", model="m", encoder="e", landmarks=[(1, 2)], align=True, return_reconstruction=True)
    image = pb.ImageSource(
        content=b"x",
        encoder="e",
        alignment=pb.ALIGNMENT_FACE,
        landmarks=pb.Landmarks(points=[pb.Point(x_px=1, y_px=2)]),
    )

    assert [pb.InvertRequest(model="m", image=image, return_reconstruction=True, output_config=OUTPUT)] == (
        server.requests
    )


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.generate([1, 2], psi=0.5, model="m"),
        lambda client: client.mix_styles(1, style(2, layers("coarse")), model="m", format="webp"),
        lambda client: client.invert(b"x", return_reconstruction=True),
        lambda client: client.models(),
        lambda client: client.model("b"),
    ],
    ids=["generate", "mix_styles", "invert", "models", "model"],
)
def test_both_clients_send_the_same(server, client, ask):
    """Client and AsyncClient make the same requests of the same arguments."""
    ask(client)
    sync_requests = list(server.requests)
    server.requests.clear()
    asked(server, ask)

    assert sync_requests == server.requests


def test_both_clients_have_the_same_methods():
    """What one client can do the other can do, with the same parameters."""

    def surface(cls):
        return {
            name: inspect.signature(method).parameters.keys()
            for name, method in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    assert surface(Client) == surface(AsyncClient)


def test_results_carry_code_timing_batch_and_digest(client):
    """A result says what it is and where it came from."""
    first, second = client.generate([7, 9], return_codes=True)

    np.testing.assert_array_equal(np.full((10, 4), 9, np.float32), second.code)
    assert Timing(0.001, 0.002, 0.003) == first.timing
    assert (2, DIGEST) == (first.batch_size, first.model_digest)
    assert [7, 9] == [first.seed, second.seed]
    assert (8, 8) == (first.width_px, first.height_px)


@pytest.mark.parametrize("image_format", ["png", "webp", "pixels"])
def test_pictures_are_images_arrays_and_files(client, tmp_path, image_format):
    """A picture can be had as Pillow image, as numpy array and as file of any format."""
    result = client.generate(200, format=image_format)[0]

    assert (8, 8, 3) == result.array.shape
    assert (200, 200, 200) == result.image.getpixel((0, 0))
    with PIL.Image.open(result.save(tmp_path / "a.png")) as saved:
        assert ("PNG", (200, 200, 200)) == (saved.format, saved.getpixel((0, 0)))


def test_save_writes_the_servers_bytes_when_the_suffix_fits(client, tmp_path):
    """Nothing is encoded twice."""
    result = client.generate(7, format="jpeg")[0]

    assert result.content == result.save(tmp_path / "a.JPG").read_bytes()
    assert b"\x89PNG" == result.save(tmp_path / "a.png").read_bytes()[:4]


def test_float_results_have_no_pixels(client):
    """The network's own output is a tensor, and pixels are not guessed from it."""
    result = client.generate(7, format="tensor")[0]

    assert ((3, 8, 8), np.float32) == (result.tensor.shape, result.tensor.dtype)
    with pytest.raises(ValueError, match='ask for "pixels"'):
        result.array  # noqa: B018 - the access is what is tested


def test_inversion_has_what_was_asked_for(client):
    """Reconstruction and distortion come on request only."""
    plain, full = client.invert(b"x"), client.invert(b"x", return_reconstruction=True)

    assert (None, None) == (plain.reconstruction, plain.distortion)
    assert plain.code[0, 0] == plain.aligned.image.getpixel((0, 0))[0]
    assert (0.25, full.code[0, 0]) == (full.distortion, full.reconstruction.image.getpixel((0, 0))[0])
    assert (10, 4) == full.code.shape


def test_frames_arrive_in_order(server, client):
    """Both clients yield the frames of a stream with their index."""

    async def walk():
        async with AsyncClient(server.address) as async_client:
            return [frame.index async for frame in async_client.interpolate([1, 2], 4)]

    frames = list(client.interpolate([1, 2], 4, return_codes=True))

    assert [0, 1, 2, 3] == [frame.index for frame in frames] == asyncio.run(walk())
    assert [0, 1, 2, 3] == [frame.code[0, 0] for frame in frames]


def test_leaving_a_stream_cancels_it_on_the_server(server, client):
    """A reader that stops early does not leave the server working."""
    stream = client.interpolate([1, 2], 1_000_000)
    next(stream)
    stream.close()

    assert server.ended.wait(10)


def test_models_reads_all_pages(client):
    """The list is complete, however many pages the server makes of it."""
    assert ["a", "b"] == [model.name for model in client.models()]
    assert "b" == client.model("b").name


def test_big_pictures_pass(server, client):
    """A reply over gRPC's usual 4 MB arrives."""
    server.size_px = 1500

    assert 1500 * 1500 * 3 == client.generate(1, format="pixels")[0].array.size


def test_errors_are_the_servers(server, client):
    """The SDK raises the class the server raised, with its details and the cause beneath."""
    violations = (Violation("latents[0].seed", "is -1"), Violation("model", "is odd"))
    server.failures.append(InvalidFieldError.of(violations))
    with pytest.raises(InvalidFieldError, match="is -1") as caught:
        client.generate(1)

    assert violations == caught.value.violations
    assert caught.value.__cause__ is not None


def test_async_client_raises_the_same_errors(server):
    """AsyncClient translates errors like Client, for single answers and for streams."""

    async def walk(client):
        return [frame async for frame in client.interpolate([1, 2], 3)]

    server.failures += [ModelNotFoundError("no model m"), OverloadedError("full", retry_after_seconds=90)]
    with pytest.raises(ModelNotFoundError, match="no model m"):
        asked(server, lambda client: client.generate(1, model="m"))
    with pytest.raises(OverloadedError) as caught:
        asked(server, walk)

    assert 90 == caught.value.retry_after_seconds


def test_stream_errors_are_typed(server, client):
    """A stream that fails raises what the server raised."""
    server.failures.append(ModelNotFoundError("no model m"))
    with pytest.raises(ModelNotFoundError):
        list(client.interpolate([1, 2], 3))


@pytest.mark.parametrize("where", ["call", "client"])
def test_deadline_ends_a_call(server, where):
    """A server that does not answer in time is a DeadlineError, by the call's timeout or the client's."""
    server.gate.clear()
    default, own = (0.1, None) if where == "client" else (60, 0.1)
    with Client(server.address, timeout=default) as client, pytest.raises(DeadlineError, match="longer timeout"):
        client.generate(1, timeout=own)


def test_no_server_is_named():
    """When nobody answers the error says where nobody answers."""
    with Client("127.0.0.1:1") as client, pytest.raises(UnreachableError, match=r"no server answers at 127\.0\.0\.1:1"):
        client.models()


@pytest.mark.parametrize(
    "options", [{"format": "gif"}, {"noise": "some"}, {"fromat": "png"}], ids=["format", "noise", "name"]
)
def test_wrong_words_never_leave_the_process(server, client, options):
    """A misspelt option is refused before the server is asked."""
    with pytest.raises((ValueError, TypeError)):
        client.generate(1, **options)

    assert [] == server.requests
