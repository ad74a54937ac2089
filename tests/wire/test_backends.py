"""Every other backend against onnxruntime, through two servers of the same models."""

import numpy as np
import pytest

from stylewire import pb
from stylewire.tensors import to_array
from support.pictures import worst_difference
from support.servers import running_server

TENSOR = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
NOISES = {
    "const": pb.Noise(),
    "none": pb.Noise(mode=pb.Noise.MODE_NONE),
    "random": pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=9),
}


@pytest.fixture(scope="module", params=["openvino", "torchscript"])
def other(request, small_models):
    """A stub of a server that runs another backend."""
    with (
        running_server(models=small_models, default_model="plain", backend=request.param) as server,
        server.channel() as channel,
    ):
        yield pb.StyleGanServiceStub(channel)


def generate(name, **fields):
    latents = [pb.Latent(seed=seed, class_index=seed if name == "classes" else None) for seed in range(5)]
    return pb.GenerateRequest(model=name, latents=latents, return_codes=True, **fields)


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("name", ["plain", "twin", "classes", "rgba"])
def test_backends_agree_on_pixels(small, other, name, noise):
    """Pixels of both backends differ by one 8-bit level at most."""
    ours, others = (stub.Generate(generate(name, noise=noise)) for stub in (small, other))
    worst = worst_difference(ours.images, others.images)
    print(f"{name}: largest difference of the pixels {worst} of 255")

    assert worst <= 1


@pytest.mark.parametrize("name", ["plain", "twin", "classes", "rgba"])
def test_backends_agree_on_floats(small, other, name):
    """Codes and float images of both backends agree to float32 accuracy."""
    ours, others = (stub.Generate(generate(name, output_config=TENSOR)) for stub in (small, other))
    pairs = [*zip(ours.codes, others.codes, strict=True)]
    pairs += [(a.tensor, b.tensor) for a, b in zip(ours.images, others.images, strict=True)]
    worst = max(np.abs(to_array(a) - to_array(b)).max() for a, b in pairs)
    print(f"{name}: largest difference of codes and images {worst:.2g}")

    assert worst < 1e-4


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torchscript"])
def test_model_says_what_runs_it(small_models, backend):
    """Model.backend is what really runs, and the digest covers all files, hence is the same."""
    with (
        running_server(models=small_models / "plain", backend=backend) as server,
        server.channel() as channel,
    ):
        model = pb.ModelServiceStub(channel).GetModel(pb.GetModelRequest()).model

    assert (backend, "cpu", "fp32") == (model.backend, model.device, model.precision)
