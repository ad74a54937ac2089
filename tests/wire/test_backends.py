"""Every other backend against onnxruntime, through two servers of the same models."""

from pathlib import Path

import numpy as np
import pytest

from stylewire import pb
from stylewire.errors import BackendUnavailableError
from stylewire.tensors import to_array
from support.models import export_random_model
from support.pictures import worst_difference
from support.scrape import Scrape
from support.servers import RunningServer, running_server

TENSOR = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
NOISES = {
    "const": pb.Noise(),
    "none": pb.Noise(mode=pb.Noise.MODE_NONE),
    "random": pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=9),
}


@pytest.fixture(scope="module")
def ncnn_models(tmp_path_factory) -> Path:
    """The same models with files for ncnn."""
    out, formats = tmp_path_factory.mktemp("ncnn"), ("onnx", "ncnn")
    export_random_model(out, "plain", seed=1, latent_space="shared", formats=formats)
    export_random_model(out, "twin", seed=2, latent_space="shared", formats=formats)
    export_random_model(out, "classes", seed=3, label_dim=5, formats=formats)
    export_random_model(out, "rgba", seed=4, image_channels=4, formats=formats)
    return out


@pytest.fixture(scope="module", params=["ncnn", "openvino", "torchscript"])
def other(request, small_models, ncnn_models):
    """A stub of a server that runs another backend."""
    models = ncnn_models if request.param == "ncnn" else small_models
    with (
        running_server(models=models, default_model="plain", backend=request.param) as server,
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


@pytest.mark.parametrize("backend", ["ncnn", "onnxruntime", "openvino", "torchscript"])
def test_model_says_what_runs_it(small_models, ncnn_models, backend):
    """Model.backend is what really runs the pictures; mapping networks have no file for ncnn."""
    models = ncnn_models if backend == "ncnn" else small_models
    with running_server(models=models / "plain", backend=backend) as server, server.channel() as channel:
        model = pb.ModelServiceStub(channel).GetModel(pb.GetModelRequest()).model
        shown = Scrape(server.metrics_url)
    mapping = "onnxruntime" if backend == "ncnn" else backend

    assert (backend, "cpu", "fp32") == (model.backend, model.device, model.precision)
    assert {("synthesis", backend, "fp32", True), ("mapping", mapping, "fp32", True)} == {
        (runtime.graph, runtime.backend, runtime.precision, runtime.chosen) for runtime in model.runtimes
    }
    assert 1 == shown.value("stylewire_graph_info", graph="synthesis", backend=backend, device="cpu", precision="fp32")
    assert 1 == shown.value("stylewire_graph_info", graph="mapping", backend=mapping)


def test_model_tells_the_memory_that_loading_took(small_models, monkeypatch):
    """It is what the process has afterwards, less what it had before; in the reply and in the metrics."""
    sizes = iter([10_000_000, 14_000_000])
    monkeypatch.setattr("stylewire.server.engine.models.loader.resident_bytes", lambda: next(sizes))
    with running_server(models=small_models / "plain") as server, server.channel() as channel:
        model = pb.ModelServiceStub(channel).GetModel(pb.GetModelRequest()).model
        shown = Scrape(server.metrics_url)

    assert 4_000_000 == model.resident_bytes
    assert 4_000_000 == shown.value("stylewire_model_resident_bytes", model="plain")


def test_fastest_backend_is_chosen_and_shown(ncnn_models, tmp_path, monkeypatch):
    """The choice and the others come with their speeds, and the next start remembers them without measuring."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    starts = []
    for _ in range(2):
        with running_server(models=ncnn_models / "plain", backend="auto") as server, server.channel() as channel:
            model = pb.ModelServiceStub(channel).GetModel(pb.GetModelRequest()).model
        starts.append([runtime for runtime in model.runtimes if runtime.graph == "synthesis"])
        fastest = max(starts[-1], key=lambda runtime: runtime.rows_per_second)
        assert fastest.chosen
        assert fastest.backend == model.backend
    print([(runtime.backend, runtime.rows_per_second) for runtime in starts[0]])

    assert {"ncnn", "onnxruntime", "openvino"} == {runtime.backend for runtime in starts[0]}
    assert all(runtime.rows_per_second > 0 and not runtime.problem for runtime in starts[0])
    assert 1 == sum(runtime.chosen for runtime in starts[0])
    assert starts[0] == starts[1]


def test_backend_without_files_is_refused(small_models):
    """A model that was not exported for a backend says how to change that."""
    with pytest.raises(BackendUnavailableError, match="no synthesis for ncnn: export the model with more --formats"):
        RunningServer(models=small_models / "plain", backend="ncnn")
