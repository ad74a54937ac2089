"""The OpenVINO backend: batches of any size, several at once, and only what was asked for."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino as ov
import pytest

from stylewire.demo import MODELS
from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends import OUTPUTS, BackendOptions, open_backend

DIRECTORY = MODELS / "avatars"
HAS_BF16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def open_graph(graph="synthesis", backend="openvino", **options):
    return open_backend(backend, DIRECTORY / f"{graph}.onnx", BackendOptions(**({"threads": 2} | options)))


def codes(row_count, noise_size=1):
    generator = np.random.default_rng(row_count)
    layer_count, w_dim = 10, 128
    return {
        "w_plus": generator.standard_normal((row_count, layer_count, w_dim), np.float32),
        "noise_strength": np.ones(row_count, np.float32),
        "noise": generator.standard_normal((row_count, noise_size), np.float32),
    }


@pytest.fixture(scope="module")
def reference():
    """The same graph in onnxruntime."""
    return open_graph(backend="onnxruntime")


@pytest.fixture(scope="module")
def backend():
    """The graph in OpenVINO, two batches at once."""
    return open_graph(instances=2)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("row_count", [1, 2, 3, 5, 7, 11])
def test_batches_of_any_size(backend, reference, row_count, exclusive):
    """A batch that is not compiled runs as several that are; its rows come in order."""
    found = backend.run(codes(row_count), OUTPUTS["synthesis"], exclusive=exclusive)
    expected = reference.run(codes(row_count), OUTPUTS["synthesis"])

    assert np.abs(found["pixels"].astype(int) - expected["pixels"]).max() <= 1
    assert np.abs(found["image"] - expected["image"]).max() < 1e-4


@pytest.mark.parametrize("noise_size", [1, 16, 10896, 10900])
def test_noise_of_any_length(backend, reference, noise_size):
    """Drawn noise for some or all maps gives what onnxruntime gives; values beyond the maps count for nothing."""
    found = backend.run(codes(2, noise_size=noise_size), ("image",))["image"]

    assert np.abs(found - reference.run(codes(2, noise_size=noise_size), ("image",))["image"]).max() < 1e-4


def test_drawn_noise_compiles_nothing(backend):
    """The first request with drawn noise is as fast as the others."""
    backend.run(codes(2), ("pixels",))
    known = len(backend.compiled)
    backend.run(codes(2, noise_size=10896), ("pixels",))

    assert known == len(backend.compiled)


def test_several_at_once(backend):
    """Batches that run side by side do not mix, also when more threads come than there are instances."""
    inputs = [codes(n) for n in (1, 2, 3, 4)] * 4
    alone = [backend.run(each, ("pixels",))["pixels"] for each in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: backend.run(each, ("pixels",))["pixels"], inputs))

    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_answers_stay_as_they_are(backend):
    """What was returned does not change when the next batch runs in the same memory."""
    first = backend.run(codes(1), ("pixels",))["pixels"]
    kept = first.copy()
    backend.run(codes(2), ("pixels",))
    backend.run({**codes(1), "w_plus": codes(1)["w_plus"] * 2}, ("pixels",))

    np.testing.assert_array_equal(kept, first)


def test_only_wanted_outputs_come(backend):
    """Whoever asks for codes of pictures gets no floats."""
    assert {"pixels"} == backend.run(codes(1), ("pixels",)).keys()


def test_no_other_device():
    """A device that it cannot use is refused by name."""
    with pytest.raises(BackendUnavailableError, match="not on 'cuda:0'"):
        open_graph(device="cuda:0")


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bf16 units")
def test_fast_is_bf16_for_pictures_only():
    """Fast arithmetic is what it says it is, and codes stay float32."""
    assert "bf16" == open_graph(precision="fast").precision
    assert "fp32" == open_graph("mapping", precision="fast").precision
    assert "fp32" == open_graph().precision


@pytest.mark.skipif(HAS_BF16, reason="this processor has bf16 units")
def test_fast_is_float32_where_there_is_nothing_else():
    """Without such units fast arithmetic is float32, and says so."""
    assert "fp32" == open_graph(precision="fast").precision


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bf16 units")
def test_bf16_is_close_to_float32(reference):
    """Pictures of the demo model in bf16 keep 50 dB; single pixels may miss the bound that the self-check sets."""
    z = np.random.default_rng(0).standard_normal((8, 128), np.float32)
    w = open_graph("mapping", backend="onnxruntime").run({"z": z}, ("w",))["w"]
    inputs = {**codes(8), "w_plus": np.repeat(w[:, None], 10, axis=1), "noise": np.zeros((8, 1), np.float32)}
    found = open_graph(precision="fast").run(inputs, OUTPUTS["synthesis"])
    expected = reference.run(inputs, OUTPUTS["synthesis"])
    error = np.sqrt(np.mean((found["image"] - expected["image"]) ** 2))
    psnr = 20 * np.log10(np.ptp(expected["image"]) / error)
    levels = np.abs(found["pixels"].astype(int) - expected["pixels"]).max()
    print(f"bf16: {psnr:.1f} dB, at most {levels} levels")

    assert psnr >= 50
