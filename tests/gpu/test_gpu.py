"""Every backend on an NVIDIA GPU against onnxruntime on the CPU: ``pytest -m gpu tests/gpu``."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from stylewire.demo import MODELS
from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends import OUTPUTS, BackendOptions, graph_name
from stylewire.server.engine.backends.onnxruntime.backend import OrtBackend, TensorRtBackend
from stylewire.server.engine.backends.torchscript import TorchScriptBackend
from stylewire.server.engine_api.graphs import graph_kind
from stylewire_export.bundle import ExportJob, export_model
from support.models import random_generator

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not HAS_CUDA and not torch.cuda.is_available(), reason="neither PyTorch nor onnxruntime can use a GPU here"
    ),
]

FORMATS = ("onnx", "onnx-fp16", "torchscript", "torchscript-fp16")
FILES = [
    (OrtBackend, "synthesis.onnx"),
    (OrtBackend, "synthesis.fp16.onnx"),
    (TensorRtBackend, "synthesis.onnx"),
    (TensorRtBackend, "synthesis.fp16.onnx"),
    (TorchScriptBackend, "synthesis.pt"),
    (TorchScriptBackend, "synthesis.fp16.pt"),
]
SIDE_PX = 64
NOISE_SIZE = 16 + 2 * sum(side * side for side in (8, 16, 32, 64))


def open_on_gpu(backend_type, path, **options):
    """Open a graph on the GPU, or skip the test and say why."""
    if backend_type is TorchScriptBackend:
        if not torch.cuda.is_available():
            pytest.skip("PyTorch finds no GPU here")
    elif not HAS_CUDA:
        pytest.skip("this onnxruntime was not built for GPUs")
    outputs = OUTPUTS[graph_kind(graph_name(path))]
    try:
        return backend_type(path, outputs, BackendOptions(device="cuda:0", **options))
    except BackendUnavailableError as err:
        if backend_type is TensorRtBackend or not torch.cuda.is_available():
            pytest.skip(f"{backend_type.name} cannot be used here: {err}")
        raise


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """A generator of 64 px in all formats."""
    out = tmp_path_factory.mktemp("models")
    torch.save({"g_ema": random_generator(seed=1, resolution_px=SIDE_PX).state_dict()}, out / "seeded.pt")
    export_model(ExportJob(generator=out / "seeded.pt", name="seeded", out=out, formats=FORMATS))
    return out / "seeded"


@pytest.fixture(scope="module")
def reference(directory):
    """The same graph in float32 on the CPU."""
    return OrtBackend(directory / "synthesis.onnx", OUTPUTS["synthesis"], BackendOptions(threads=4))


@pytest.fixture(scope="module", params=FILES, ids=lambda param: f"{param[0].name}-{param[1]}")
def backend(request, directory, tmp_path_factory):
    """A backend on the GPU."""
    backend_type, name = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        backend = open_on_gpu(backend_type, directory / name)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def mapping(directory):
    """What makes codes of z."""
    return OrtBackend(directory / "mapping.onnx", OUTPUTS["mapping"], BackendOptions())


@pytest.fixture(scope="module")
def codes(mapping):
    """Make inputs of some rows; a row is the same in every batch."""

    def make(row_count, noise_size=1):
        z = np.random.RandomState(0).randn(64, 16).astype(np.float32)[:row_count]
        w = mapping.run({"z": z}, ("w",))["w"]
        noise = np.random.RandomState(1).randn(row_count, noise_size).astype(np.float32)
        return {
            "w_plus": np.repeat(w[:, None], 2 * (SIDE_PX.bit_length() - 2), axis=1),
            "noise_strength": np.full(row_count, noise_size == 1, np.float32),
            "noise": noise * (noise_size > 1),
        }

    return make


def assert_close(precision, expected, found, what):
    """Compare pixels: one level for float32, three and 50 dB for the rest."""
    difference = found.astype(float) - expected
    error = np.mean(difference**2)
    psnr = 10 * np.log10(255**2 / error) if error else np.inf
    worst = np.abs(difference).max()
    print(f"{what}: {precision}, {psnr:.1f} dB, at most {worst:.0f} levels")

    assert worst <= (1 if precision == "fp32" else 3)
    assert psnr >= 50


def test_runs_where_it_says(backend):
    """Nothing falls back to the CPU or to another arithmetic."""
    assert "cuda:0" == backend.device
    assert backend.precision in {"fp32", "tf32", "fp16"}


@pytest.mark.parametrize("row_count", [1, 2, 3, 4, 5, 7, 8, 11, 16, 24, 32, 40])
def test_pixels_of_any_batch(backend, reference, codes, row_count):
    """Batches of every size with a graph, and of those between them, give the pixels of the CPU."""
    inputs = codes(row_count)
    found = backend.run(inputs, ("pixels",))["pixels"]

    assert (row_count, SIDE_PX, SIDE_PX, 3) == found.shape
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert_close(backend.precision, reference.run(inputs, ("pixels",))["pixels"], found, backend.name)


def test_replays_give_what_the_first_run_gave(backend, codes):
    """A captured graph reads the new inputs each time, and gives the same for the same."""
    first, second = codes(4), {**codes(4), "w_plus": codes(4)["w_plus"][::-1].copy()}
    pixels = [backend.run(inputs, ("pixels",))["pixels"] for inputs in (first, second, first, second)]

    np.testing.assert_array_equal(pixels[0], pixels[2])
    np.testing.assert_array_equal(pixels[1], pixels[3])
    assert (pixels[0] != pixels[1]).any()


def test_a_row_does_not_depend_on_its_batch(backend, codes):
    """A picture is the same alone and in any batch, up to the algorithm that its size is run with."""
    together = backend.run(codes(11), ("pixels",))["pixels"]
    for size in (1, 3, 8):
        alone = backend.run(codes(size), ("pixels",))["pixels"]
        assert_close(backend.precision, together[:size], alone, f"{size} rows against 11")


def test_drawn_noise(backend, reference, codes):
    """Noise of full length, which no graph was captured for, gives the pixels of the CPU."""
    inputs = codes(3, NOISE_SIZE)
    found = backend.run(inputs, ("pixels",))["pixels"]

    assert_close(backend.precision, reference.run(inputs, ("pixels",))["pixels"], found, "noise")
    assert (found != backend.run(codes(3), ("pixels",))["pixels"]).any()


def test_only_wanted_outputs_come(backend, reference, codes):
    """Floats come on request only, beside the pixels or alone."""
    inputs = codes(2)

    assert {"pixels"} == backend.run(inputs, ("pixels",)).keys()
    assert {"image"} == backend.run(inputs, ("image",)).keys()
    both = backend.run(inputs, ("image", "pixels"))
    expected = reference.run(inputs, ("image",))["image"]
    error = np.sqrt(np.mean((both["image"] - expected) ** 2)) / np.ptp(expected)
    print(f"image: {error:.2g} of its range")
    assert error < (1e-4 if backend.precision == "fp32" else 10 ** (-50 / 20))
    assert (2, SIDE_PX, SIDE_PX, 3) == both["pixels"].shape


def test_answers_stay_as_they_are(backend, codes):
    """What was returned does not change when the next batch runs in the same memory."""
    found = backend.run(codes(2), ("pixels",))["pixels"]
    kept = found.copy()
    other = {**codes(2), "w_plus": codes(2)["w_plus"][::-1].copy()}
    for _ in range(5):
        backend.run(other, ("pixels",))

    np.testing.assert_array_equal(kept, found)


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize(
    ("backend_type", "name"), [(OrtBackend, "synthesis.fp16.onnx"), (TorchScriptBackend, "synthesis.fp16.pt")]
)
def test_several_threads_at_once(directory, codes, backend_type, name, instances):
    """Threads that come at once, the first of them while graphs are captured, each get their own rows."""
    backend = open_on_gpu(backend_type, directory / name, instances=instances)
    counts = [1, 2, 3, 4, 5] * 6
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda count: backend.run(codes(count), ("pixels",))["pixels"], counts))
    together = backend.run(codes(5), ("pixels",))["pixels"]
    backend.close()

    for count, pixels in zip(counts, found, strict=True):
        assert_close("fp16", together[:count], pixels, f"{count} rows")


def test_two_models_at_once(directory, codes):
    """A graph is captured while another one runs, and neither disturbs the other."""
    first = open_on_gpu(OrtBackend, directory / "synthesis.fp16.onnx")
    expected = first.run(codes(4), ("pixels",))["pixels"]
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(lambda: [first.run(codes(4), ("pixels",))["pixels"] for _ in range(200)])
        second = open_on_gpu(OrtBackend, directory / "synthesis.onnx")
        captured = [second.run(codes(size), ("pixels",))["pixels"] for size in (1, 2, 4, 8)]
        found = running.result()
    first.close(), second.close()

    assert [1, 2, 4, 8] == [len(pixels) for pixels in captured]
    assert all(np.array_equal(expected, pixels) for pixels in found)


@pytest.mark.parametrize("graph", ["mapping", "encoder"])
def test_the_other_graphs(graph):
    """Codes of the demo model are those of the CPU."""
    path = MODELS / "avatars" / f"{graph}.onnx"
    outputs = OUTPUTS[graph]
    with np.load(MODELS / "avatars" / "check.npz") as vectors:
        inputs = {
            name.removeprefix(f"{graph}.in."): vectors[name] for name in vectors if name.startswith(f"{graph}.in.")
        }
        expected = vectors[f"{graph}.out.{outputs[0]}"]
    backend = open_on_gpu(OrtBackend, path)
    found = backend.run(inputs, outputs)[outputs[0]]
    backend.close()
    worst = np.abs(found - expected).max() / np.ptp(expected)
    print(f"{graph}: largest difference {worst:.2g} of the range")

    assert worst < 2e-4
