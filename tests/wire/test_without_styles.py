"""Generators without styles (DCGAN): what they do, and what they refuse by name."""

import grpc
import numpy as np
import pytest
import torch
import tritonclient.grpc as triton_client
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from stylewire import latents, pb
from stylewire.keyframes import frame_positions
from stylewire.tensors import to_array, to_tensor
from stylewire_export.bundle import ExportJob, export_model
from stylewire_export.checkpoints.config import DcganConfig
from stylewire_export.networks.dcgan import Dcgan
from support.oip import given, wanted
from support.pictures import digest, sources
from support.servers import running_server

Z_DIM, LABELS = 6, ("cat", "dog")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """``plain``: 16 px DCGAN, Z = 6; ``classes``: the same with two classes."""
    out = tmp_path_factory.mktemp("without-styles")
    for name, label_names in (("plain", ()), ("classes", LABELS)):
        torch.manual_seed(len(label_names))
        config = DcganConfig(input_dim=Z_DIM + len(label_names), widths=(8, 6, 3), biased=(False, False, False))
        torch.save(Dcgan(config).state_dict(), out / "generator.pth")
        export_model(
            ExportJob(generator=out / "generator.pth", name=name, out=out, z_dim=Z_DIM, label_names=label_names)
        )
    with running_server(models=out, default_model="plain") as server:
        yield server


@pytest.fixture
def stub(server):
    with server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


def tensors(**request) -> dict:
    return {"output_config": pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR), **request}


def images(reply) -> np.ndarray:
    return np.stack([to_array(image.tensor) for image in reply.images])


def frames(stub, **request) -> np.ndarray:
    replies = stub.Interpolate(pb.InterpolateRequest(**tensors(**request)))
    return np.stack([to_array(reply.image.tensor) for reply in replies])


def drawn(stub, z) -> np.ndarray:
    sources = [pb.Latent(z=to_tensor(np.asarray(each, np.float32))) for each in z]
    return images(stub.Generate(pb.GenerateRequest(**tensors(latents=sources))))


def test_seed_and_its_z_are_one_picture(stub):
    """A seed means the same z as everywhere else."""
    by_seed = stub.Generate(pb.GenerateRequest(**tensors(latents=[pb.Latent(seed=3)])))

    assert np.allclose(images(by_seed), drawn(stub, [latents.sample_z(3, Z_DIM)]), atol=1e-6)
    assert (3, 16, 16) == images(by_seed)[0].shape


def test_class_by_index_and_by_vector_agree(stub):
    """Conditional generators take a class or a soft label; classes differ."""
    label = to_tensor(np.array([0, 1], np.float32))
    sources = [pb.Latent(seed=1, class_index=1), pb.Latent(seed=1, label=label), pb.Latent(seed=1, class_index=0)]
    made = images(stub.Generate(pb.GenerateRequest(**tensors(model="classes", latents=sources))))

    assert np.array_equal(made[0], made[1])
    assert np.abs(made[0] - made[2]).max() > 1e-4


@pytest.mark.parametrize("method", ["LERP", "SLERP", "CUBIC"])
def test_walk_goes_through_its_keyframes(stub, method):
    """The first, middle and last of five frames through three keyframes are the keyframes' pictures."""
    keyframes = [pb.Latent(seed=seed) for seed in (1, 2, 3)]
    value = pb.InterpolateRequest.Method.Value(f"METHOD_{method}")
    walked = frames(stub, keyframes=keyframes, frame_count=5, method=value)

    expected = drawn(stub, [latents.sample_z(seed, Z_DIM) for seed in (1, 2, 3)])
    assert np.allclose(expected, walked[::2], atol=1e-5)


def test_lines_run_between_the_z(stub):
    """LERP is the straight line in z."""
    walked = frames(stub, keyframes=[pb.Latent(seed=1), pb.Latent(seed=2)], frame_count=4)
    ends = [latents.sample_z(seed, Z_DIM) for seed in (1, 2)]
    positions = frame_positions(2, 4, looped=False)

    assert np.allclose(drawn(stub, [latents.lerp(*ends, float(t)) for t in positions]), walked, atol=1e-5)


def test_classes_blend_along_a_walk(stub):
    """Between two classes the label goes over linearly: the middle frame is the picture of the half-and-half label."""
    keyframes = [pb.Latent(seed=1, class_index=0), pb.Latent(seed=1, class_index=1)]
    walked = frames(stub, model="classes", keyframes=keyframes, frame_count=3)
    half = pb.Latent(seed=1, label=to_tensor(np.array([0.5, 0.5], np.float32)))
    middle = images(stub.Generate(pb.GenerateRequest(**tensors(model="classes", latents=[half]))))[0]

    assert np.allclose(middle, walked[1], atol=1e-5)


def test_description_says_what_it_can_do(server):
    """ListModels tells the one capability, no layers, and the names of the classes."""
    with server.channel() as channel:
        models = {model.name: model for model in pb.ModelServiceStub(channel).ListModels(pb.ListModelsRequest()).models}

    assert [pb.CAPABILITY_GENERATE] == models["plain"].capabilities
    assert (0, 0, "dcgan") == (models["plain"].layer_count, models["plain"].w_dim, models["plain"].architecture)
    assert list(LABELS) == models["classes"].label_names


CODE = to_tensor(np.zeros((4, 4), np.float32))
TRUNCATED = pb.Latent(seed=1, truncation=pb.Truncation(psi=0.5))
REFUSED = {
    "truncation": ("Generate", pb.GenerateRequest(latents=[TRUNCATED])),
    "truncation of layers": (
        "Generate",
        pb.GenerateRequest(
            latents=[pb.Latent(seed=1, truncation=pb.Truncation(layer_range=pb.LayerRange(start_layer=1)))]
        ),
    ),
    "w": ("Generate", pb.GenerateRequest(latents=[pb.Latent(w=CODE)])),
    "w_plus": ("Generate", pb.GenerateRequest(latents=[pb.Latent(w_plus=CODE)])),
    "image": ("Generate", pb.GenerateRequest(latents=[pb.Latent(image=pb.ImageSource(content=b"x"))])),
    "return_codes": ("Generate", pb.GenerateRequest(latents=[pb.Latent(seed=1)], return_codes=True)),
    "latent of another model": (
        "Generate",
        pb.GenerateRequest(latents=[pb.Latent(seed=1, model="classes", class_index=0)]),
    ),
    "invert": ("Invert", pb.InvertRequest(image=pb.ImageSource(content=b"x"))),
    "mix": (
        "MixStyles",
        pb.MixStylesRequest(content=pb.Latent(seed=1), styles=[pb.StyleSource(latent=pb.Latent(seed=2))]),
    ),
    "frames with codes": (
        "Interpolate",
        pb.InterpolateRequest(keyframes=[pb.Latent(seed=1), pb.Latent(seed=2)], frame_count=2, return_codes=True),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_styles_is_refused_by_name(stub, name):
    """FAILED_PRECONDITION with a sentence that names the model, and the server goes on."""
    method, request = REFUSED[name]
    with pytest.raises(grpc.RpcError) as caught:
        list(getattr(stub, method)(request)) if method == "Interpolate" else getattr(stub, method)(request)

    info = error_details_pb2.ErrorInfo()
    rpc_status.from_call(caught.value).details[0].Unpack(info)
    assert (grpc.StatusCode.FAILED_PRECONDITION, "UNSUPPORTED") == (caught.value.code(), info.reason)
    assert "'plain'" in caught.value.details()
    assert stub.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=1)])).images


def test_files_say_seed_and_class_or_the_digest_of_z(stub):
    """Without codes, z is what tells a picture; labels belong to it."""
    z, label = np.ones(Z_DIM, np.float32), np.array([0, 1], np.float32)
    plain = stub.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=3), pb.Latent(z=to_tensor(z))]))
    given = [pb.Latent(seed=3, class_index=1), pb.Latent(z=to_tensor(z), label=to_tensor(label * 0.5))]
    classes = stub.Generate(pb.GenerateRequest(model="classes", latents=given))
    keyframes = [pb.Latent(seed=1), pb.Latent(seed=2)]
    walk = stub.Interpolate(pb.InterpolateRequest(keyframes=keyframes, frame_count=3))

    assert ["seed 3", f"z {digest(z)}"] == sources(plain.images)
    assert ["seed 3, class 1", f"z {digest(z)}, label {digest(label * 0.5)}"] == sources(classes.images)
    assert 3 == len({text for text in sources(reply.image for reply in walk) if text.startswith("z xxh3:")})


def test_open_inference_protocol_finds_the_generator(server, stub):
    """The model as a whole and its only graph give the images of Generate; z is an input of both."""
    z = np.stack([latents.sample_z(seed, Z_DIM) for seed in (1, 2)])
    label = np.eye(2, dtype=np.float32)
    sources = [pb.Latent(seed=1, class_index=0), pb.Latent(seed=2, class_index=1)]
    with triton_client.InferenceServerClient(server.address) as client:
        names = {each.name for each in client.get_model_repository_index().models}
        replies = [
            client.infer(name, given(z=z, label=label), outputs=wanted("image")).as_numpy("image")
            for name in ("classes", "classes.generator")
        ]
    expected = images(stub.Generate(pb.GenerateRequest(model="classes", **tensors(latents=sources))))

    assert {"classes", "classes.generator", "plain", "plain.generator"} == names
    for reply in replies:
        np.testing.assert_allclose(reply, expected, atol=1e-4)
