import io

import numpy as np
import PIL.Image
import pytest

from stylewire import UnsupportedError, layers, noise, pb, photo, resolutions, seed, style, w, w_plus, z
from stylewire.client.inputs import to_latent
from stylewire.client.requests import to_latents
from stylewire.tensors import to_array
from support.fake_service import model


def test_seed_alone_says_nothing_else():
    """A bare seed leaves every other field of the latent unset."""
    assert pb.Latent(seed=7) == seed(7)


def test_seed_carries_all_that_decides_its_code():
    """Truncation, its layers, class and model travel with the seed."""
    expected = pb.Latent(
        seed=7,
        truncation=pb.Truncation(psi=0.5, layer_range=pb.LayerRange(start_layer=0, end_layer=4)),
        class_index=0,
        model="pixels",
    )

    assert expected == seed(np.int64(7), psi=0.5, truncation_layers=(0, 4), class_index=0, model="pixels")


def test_truncation_span_may_be_open():
    """A span that ends in None reaches to the last layer."""
    latent = seed(7, psi=0, truncation_layers=(3, None))

    assert not latent.truncation.layer_range.HasField("end_layer")
    assert 3 == latent.truncation.layer_range.start_layer
    assert latent.truncation.HasField("psi")


@pytest.mark.parametrize(
    ("make", "field", "shape"), [(z, "z", (4,)), (w, "w", (4,)), (w_plus, "w_plus", (10, 4))], ids=["z", "w", "w_plus"]
)
def test_array_latents_are_sent_as_float32(make, field, shape):
    """Arrays of other dtypes and plain lists are converted to FLOAT32 of their shape."""
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    latent = make(values.tolist(), psi=0.5, model="m")

    assert field == latent.WhichOneof("source")
    np.testing.assert_array_equal(values, to_array(getattr(latent, field)))
    assert pb.DATA_TYPE_FLOAT32 == getattr(latent, field).data_type
    assert (0.5, "m") == (latent.truncation.psi, latent.model)


def test_photo_sends_the_bytes_of_a_file_untouched(tmp_path):
    """A path and the bytes of its file make the same latent."""
    path = tmp_path / "a.jpg"
    PIL.Image.new("RGB", (4, 4), "red").save(path)

    assert photo(path) == photo(str(path)) == photo(path.read_bytes())
    assert path.read_bytes() == photo(path).image.content


def test_photo_sends_a_pillow_image_without_loss():
    """A Pillow image arrives with exactly its pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)  # [H, W, C]
    latent = photo(PIL.Image.fromarray(pixels))

    np.testing.assert_array_equal(pixels, np.asarray(PIL.Image.open(io.BytesIO(latent.image.content))))


def test_photo_carries_encoder_landmarks_and_alignment():
    """What the encoder needs to know travels with the picture."""
    expected = pb.ImageSource(
        content=b"x",
        encoder="encoder-sketch",
        alignment=pb.ALIGNMENT_FACE,
        landmarks=pb.Landmarks(points=[pb.Point(x_px=1, y_px=2)]),
    )

    for face in (True, "face"):
        assert expected == photo(b"x", encoder="encoder-sketch", landmarks=[(1, 2)], align=face).image
    assert pb.ImageSource(content=b"x", alignment=pb.ALIGNMENT_ANIME) == photo(b"x", align="anime").image
    with pytest.raises(ValueError, match="align is 'manga'; choose one of face, anime"):
        photo(b"x", align="manga")


def test_missing_photo_is_an_os_error(tmp_path):
    """A file that is not there is reported before any server is asked."""
    with pytest.raises(FileNotFoundError):
        photo(tmp_path / "no.png")


@pytest.mark.parametrize(
    ("choice", "start", "end"),
    [
        (layers("coarse"), 0, 3),
        (layers("middle"), 3, 7),
        (layers("fine"), 7, 10),
        (resolutions(16, 32), 3, 7),
        (resolutions(8), 1, 3),
    ],
    ids=str,
)
def test_layers_become_the_rows_of_the_model(choice, start, end):
    """Names of layers are looked up in what the server says of the model."""
    assert pb.LayerRange(start_layer=start, end_layer=end) == choice.of(model("a"))


def test_layers_that_a_model_lacks_are_refused():
    """Asking for layers above the model's resolution names what it has."""
    with pytest.raises(UnsupportedError, match=r"model a: .* 4 to 64 px"):
        resolutions(128, 256).of(model("a"))

    with pytest.raises(UnsupportedError, match="no style layers"):
        layers("coarse").of(pb.Model(name="dcgan"))


@pytest.mark.parametrize("ask", [lambda: layers("corse"), lambda: noise("constant")], ids=["layers", "noise"])
def test_unknown_words_are_refused_with_the_known_ones(ask):
    """A misspelt word is refused before any server is asked."""
    with pytest.raises(ValueError, match="choose one of co"):
        ask()


def test_noise_carries_seed_and_strength():
    """Random noise says which."""
    expected = pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=3, strength=0.5)

    assert expected == noise("random", seed=3, strength=0.5)


def test_style_accepts_integers_as_seeds():
    """An integer stands for the seed wherever a latent is taken."""
    assert seed(4) == style(4, (0, 2)).latent


def test_psi_of_a_call_spares_latents_with_their_own():
    """A latent's own truncation wins over that of the call, and the caller's latent is not changed."""
    own, bare = seed(1, psi=0.2), seed(2)

    assert [0.2, 0.9] == [latent.truncation.psi for latent in to_latents([own, bare], psi=0.9)]
    assert not bare.HasField("truncation")


def test_to_latent_reads_numpy_integers():
    """Numpy's integers are seeds like Python's."""
    assert [seed(0), seed(1)] == to_latents(np.arange(2))
    assert seed(5) == to_latent(np.int32(5))
