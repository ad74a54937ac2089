"""Generate over a real connection."""

import io

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_client
from PIL import Image

from stylewire import latents, pb
from stylewire.tensors import to_array, to_tensor
from support.gates import one_instance
from support.oip import given
from support.pictures import shown
from support.servers import running_server


def pixels(image: pb.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.content)))


def generate(stub, *sources, **request) -> pb.GenerateResponse:
    return stub.Generate(pb.GenerateRequest(latents=sources, **request))


def test_generate_answers_each_latent_in_order(demo):
    """Every latent gets its own picture, in the order of the request."""
    together = generate(demo, *(pb.Latent(seed=seed) for seed in range(12)))
    alone = [generate(demo, pb.Latent(seed=seed)).images[0] for seed in range(12)]

    worst = max(np.abs(pixels(a).astype(int) - pixels(b)).max() for a, b in zip(together.images, alone, strict=True))
    assert worst <= 1


def test_seed_is_z_of_the_legacy_generator(small):
    """A seed and the z that numpy's RandomState draws from it are the same latent."""
    z = latents.sample_z(7, 16)

    assert shown(generate(small, pb.Latent(seed=7)).images) == shown(generate(small, pb.Latent(z=to_tensor(z))).images)


def test_codes_come_back_and_give_the_same_picture(small):
    """A returned code, sent as w_plus, gives the picture again; so does its row as w."""
    first = generate(small, pb.Latent(seed=1), return_codes=True)
    code = to_array(first.codes[0])
    again = generate(small, pb.Latent(w_plus=first.codes[0]), pb.Latent(w=to_tensor(code[0].copy())))

    assert (8, 16) == code.shape
    assert shown(first.images) * 2 == shown(again.images)


def test_truncation_pulls_only_its_layers(small):
    """Psi 0 on layers 2 to 4 puts the mean there and leaves the others."""
    whole = to_array(generate(small, pb.Latent(seed=5), return_codes=True).codes[0])
    truncation = pb.Truncation(psi=0, layer_range=pb.LayerRange(start_layer=2, end_layer=5))
    cut = to_array(generate(small, pb.Latent(seed=5, truncation=truncation), return_codes=True).codes[0])
    mean = to_array(generate(small, pb.Latent(seed=9, truncation=pb.Truncation(psi=0)), return_codes=True).codes[0])

    assert np.array_equal(whole[[0, 1, 5, 6, 7]], cut[[0, 1, 5, 6, 7]])
    assert np.array_equal(mean[2:5], cut[2:5])


def test_unset_psi_means_seven_tenths(small):
    """A truncation without psi is psi 0.7."""
    unset = generate(small, pb.Latent(seed=5, truncation=pb.Truncation()))
    explicit = generate(small, pb.Latent(seed=5, truncation=pb.Truncation(psi=0.7)))

    assert explicit.images == unset.images


@pytest.mark.parametrize(
    ("image_format", "kind"),
    [
        (pb.IMAGE_FORMAT_UNSPECIFIED, "PNG"),
        (pb.IMAGE_FORMAT_PNG, "PNG"),
        (pb.IMAGE_FORMAT_JPEG, "JPEG"),
        (pb.IMAGE_FORMAT_WEBP, "WEBP"),
    ],
)
def test_files_have_the_format_asked_for(demo, image_format, kind):
    """Files say what they are, in their bytes and in mime_type, and have the model's size."""
    (image,) = generate(demo, pb.Latent(seed=1), output_config=pb.OutputConfig(format=image_format)).images

    opened = Image.open(io.BytesIO(image.content))
    assert (kind, (64, 64)) == (opened.format, opened.size)
    assert (f"image/{kind.lower()}", 64, 64) == (image.mime_type, image.width_px, image.height_px)


def test_tensor_pixels_and_png_are_one_picture(demo):
    """PIXELS equals the decoded PNG, and TENSOR rounds to it by the rule of NVIDIA's tools."""
    by_format = {
        name: generate(demo, pb.Latent(seed=2), output_config=pb.OutputConfig(format=value)).images[0]
        for name, value in pb.ImageFormat.items()
    }
    raw = to_array(by_format["IMAGE_FORMAT_PIXELS"].tensor)
    image = to_array(by_format["IMAGE_FORMAT_TENSOR"].tensor)

    assert (3, 64, 64) == image.shape
    assert np.array_equal(pixels(by_format["IMAGE_FORMAT_PNG"]), raw)
    rounded = np.clip(image * np.float32(127.5) + np.float32(128), 0, 255).astype(np.uint8)
    assert np.array_equal(rounded.transpose(1, 2, 0), raw)


def test_resolution_reduces(demo):
    """resolution_px gives a smaller picture."""
    config = pb.OutputConfig(resolution_px=24, format=pb.IMAGE_FORMAT_WEBP, quality=80)
    (image,) = generate(demo, pb.Latent(seed=1), output_config=config).images

    assert (24, 24) == Image.open(io.BytesIO(image.content)).size


def test_noise_modes_differ_and_random_is_reproducible(small):
    """CONST, NONE and RANDOM differ; RANDOM depends on its seed alone, and image k uses seed + k."""
    modes = {
        name: shown(generate(small, pb.Latent(seed=1), noise=pb.Noise(mode=value)).images)[0]
        for name, value in pb.Noise.Mode.items()
        if value != pb.Noise.MODE_VALUES  # brings its own maps
    }
    random = pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=5)
    pair = generate(small, pb.Latent(seed=1), pb.Latent(seed=1), noise=random).images
    second = generate(small, pb.Latent(seed=1), noise=pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=6)).images[0]

    assert modes["MODE_UNSPECIFIED"] == modes["MODE_CONST"]
    assert 3 == len({modes["MODE_CONST"], modes["MODE_NONE"], modes["MODE_RANDOM"]})
    assert 2 == len(set(shown(pair)))
    assert np.abs(pixels(pair[1]).astype(int) - pixels(second)).max() <= 1


def test_noise_strength_zero_is_no_noise(small):
    """CONST with strength 0 equals NONE."""
    none = generate(small, pb.Latent(seed=1), noise=pb.Noise(mode=pb.Noise.MODE_NONE))
    zero = generate(small, pb.Latent(seed=1), noise=pb.Noise(strength=0))

    assert shown(none.images) == shown(zero.images)


def test_class_index_is_a_one_hot_label(small):
    """A class and its one-hot label are the same; another class gives another picture."""
    label = np.zeros(5, np.float32)
    label[3] = 1
    images = generate(
        small,
        pb.Latent(seed=1, class_index=3),
        pb.Latent(seed=1, label=to_tensor(label)),
        pb.Latent(seed=1, class_index=2),
        model="classes",
    ).images

    assert images[0] == images[1]
    assert 2 == len(set(shown(images)))


def test_whole_model_takes_labels(small, small_server):
    """Asked by the Open Inference Protocol, a model with classes draws what Generate draws of the same labels."""
    label = np.eye(5, dtype=np.float32)[[2, 4]]
    with triton_client.InferenceServerClient(small_server.address) as client:
        result = client.infer("classes", given(seed=np.array([1, 2], np.uint32), label=label))
    sources = [pb.Latent(seed=1, class_index=2), pb.Latent(seed=2, class_index=4)]
    images = generate(small, *sources, model="classes").images

    assert 1 >= abs(result.as_numpy("pixels").astype(int) - np.stack([pixels(image) for image in images])).max()


def test_alpha_survives(small):
    """A model with an alpha channel gives RGBA files."""
    (image,) = generate(small, pb.Latent(seed=1), model="rgba").images

    assert "RGBA" == Image.open(io.BytesIO(image.content)).mode


def test_latent_of_another_model_is_rendered_by_the_requests_model(small):
    """Latent.model makes the code, the request's model the picture."""
    code = generate(small, pb.Latent(seed=4), model="twin", return_codes=True).codes[0]
    crossed = generate(small, pb.Latent(seed=4, model="twin"), model="plain", return_codes=True)
    direct = generate(small, pb.Latent(w_plus=code), model="plain")

    assert code == crossed.codes[0]
    assert direct.images == crossed.images


def test_codes_do_not_cross_latent_spaces(small):
    """A latent of a model with another latent space is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        generate(small, pb.Latent(seed=4, model="rgba"), model="plain")

    assert grpc.StatusCode.FAILED_PRECONDITION == caught.value.code()


def test_reply_tells_time_batch_and_digest(demo_server, demo):
    """The reply carries its timing, its batch size and the digest of the model."""
    with one_instance(demo_server, "synthesis"):
        reply = generate(demo, *(pb.Latent(seed=seed) for seed in range(3)))

    assert 3 == reply.batch.size
    assert reply.timing.inference.nanos > 0
    assert reply.model_digest.startswith("sha256:")


def test_reply_over_the_message_limit_is_refused(small_models):
    """Files whose sum is larger than a message are refused with what to change, not dropped by gRPC."""
    with (
        running_server(models=small_models, default_model="plain", max_message_bytes=20_000) as server,
        server.channel() as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        generate(pb.StyleGanServiceStub(channel), *(pb.Latent(seed=seed) for seed in range(40)))

    assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()
    assert "the limit of a reply is 20000" in caught.value.details()
