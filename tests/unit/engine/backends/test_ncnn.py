"""The ncnn backend: batches of any size, several at once, and refusals where ncnn itself would crash."""

import re
import shutil
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from stylewire.errors import BackendUnavailableError
from stylewire.manifest import Manifest
from stylewire.server.engine.backends import OUTPUTS, BackendOptions, open_backend
from stylewire.server.engine.backends import ncnn as ncnn_backend
from stylewire_export.bundle import ExportJob, export_model
from stylewire_export.formats import FORMATS
from stylewire_export.graphs import encoder_graph
from stylewire_export.networks.encoder import EncoderConfig, make_encoder
from support.models import random_generator

LAYER_COUNT, W_DIM = 8, 16


def write_encoder(directory):
    """Write a small encoder as the export does: one stage of every kind, image[3, 32, 32] -> w_plus[8, 16]."""
    torch.manual_seed(0)
    encoder = make_encoder(
        EncoderConfig(
            encoder_type="GradualStyleEncoder",
            input_channels=3,
            input_size_px=(32, 32),
            layer_count=LAYER_COUNT,
            w_dim=W_DIM,
            widths=(4, 4, 6, 7, 8),
            unit_counts=(1, 2, 1, 1),
            squeeze_widths=(1, 1, 2, 2),
            head_depths=(1, 2, 3),
        )
    )
    graph = encoder_graph("encoder", encoder.eval().requires_grad_(requires_grad=False), torch.zeros(8, 16))
    for name in ("onnx", "ncnn"):
        FORMATS[name].write(graph, directory / f"encoder{FORMATS[name].suffix}")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A model directory with ONNX and ncnn files."""
    out = tmp_path_factory.mktemp("models")
    torch.save({"g_ema": random_generator(seed=0).state_dict()}, out / "generator.pt")
    job = ExportJob(generator=out / "generator.pt", name="tiny", out=out, formats=("onnx", "ncnn"))
    found = export_model(job).directory
    write_encoder(found)
    return found


@pytest.fixture
def copied(directory, tmp_path):
    """A copy of the synthesis network's files that a test may damage."""
    for suffix in ("param", "bin"):
        shutil.copy(directory / f"synthesis.ncnn.{suffix}", tmp_path)
    return tmp_path


def open_graph(directory, graph="synthesis", **options):
    path = directory / f"{graph}.ncnn.param"
    return open_backend("ncnn", path, BackendOptions(**({"threads": 2} | options)))


def codes(row_count, noise_size=1):
    generator = np.random.default_rng(row_count)
    return {
        "w_plus": generator.standard_normal((row_count, LAYER_COUNT, W_DIM), np.float32),
        "noise_strength": np.linspace(1, 0, row_count, dtype=np.float32),
        "noise": generator.standard_normal((row_count, noise_size), np.float32),
    }


@pytest.fixture(scope="module")
def reference(directory):
    """The same graph in onnxruntime."""
    return open_backend("onnxruntime", directory / "synthesis.onnx", BackendOptions())


@pytest.fixture(scope="module", params=["small", "large"])
def backend(request, directory):
    """The graph in ncnn, two batches at once: one thread for each, or two threads for each as larger graphs have."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "large":
            patch.setattr(ncnn_backend, "SMALL_BYTES", 0)
        return open_graph(directory)


@pytest.mark.parametrize("row_count", [1, 2, 5])
def test_batches_of_any_size(backend, reference, row_count):
    """Rows come in order and are those of onnxruntime, as bytes and as floats."""
    found = backend.run(codes(row_count), OUTPUTS["synthesis"])
    expected = reference.run(codes(row_count), OUTPUTS["synthesis"])

    assert np.uint8 == found["pixels"].dtype
    assert np.float32 == found["image"].dtype
    assert np.abs(found["pixels"].astype(int) - expected["pixels"]).max() <= 1
    assert np.abs(found["image"] - expected["image"]).max() < 1e-4


def test_noise_of_any_length(directory, backend, reference):
    """New noise is used as far as it goes, be it of one value, of some layers or of all."""
    whole = Manifest.read(directory).noise_size
    images = {}
    for size in (1, 16, whole):
        images[size] = backend.run(codes(3, noise_size=size), ("image",))["image"]
        expected = reference.run(codes(3, noise_size=size), ("image",))["image"]
        assert np.abs(images[size] - expected).max() < 1e-4

    assert np.abs(images[whole] - images[1]).max() > 0.01


def test_encoder(directory):
    """An encoder gives the codes of onnxruntime; its image is the only input."""
    images = np.random.default_rng(0).uniform(-1, 1, (3, 3, 32, 32)).astype(np.float32)
    encoder = open_graph(directory, "encoder")
    expected = open_backend("onnxruntime", directory / "encoder.onnx", BackendOptions()).run(
        {"image": images}, ("w_plus",)
    )["w_plus"]
    found = encoder.run({"image": images}, ("w_plus",))["w_plus"]

    assert ("image",) == encoder.input_names
    assert (3, LAYER_COUNT, W_DIM) == found.shape
    assert np.abs(found - expected).max() < 1e-4 * np.ptp(expected)


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
    first = backend.run(codes(1), OUTPUTS["synthesis"])
    kept = {name: array.copy() for name, array in first.items()}
    backend.run(codes(2), OUTPUTS["synthesis"])
    backend.run({**codes(1), "w_plus": codes(1)["w_plus"] * 2}, OUTPUTS["synthesis"])

    for name, array in kept.items():
        np.testing.assert_array_equal(array, first[name])


def test_inputs_stay_as_they_are(backend):
    """The caller's arrays are read only, also where they cannot be written to or have gaps."""
    given = codes(4)
    kept = {name: array.copy() for name, array in given.items()}
    for array in given.values():
        array.flags.writeable = False
    whole = backend.run(given, ("image",))["image"]
    gaps = {name: np.repeat(array, 2, axis=-1)[..., ::2] for name, array in given.items()}

    np.testing.assert_array_equal(whole, backend.run(gaps, ("image",))["image"])
    for name, array in kept.items():
        np.testing.assert_array_equal(array, given[name])


def test_layers_that_work_in_place(tmp_path):
    """An input that goes into a layer which overwrites it is the caller's no more, and not NumPy's."""
    (tmp_path / "encoder.ncnn.param").write_text(
        "7767517\n2 2\nInput in0 0 1 in0\nUnaryOp square 1 1 in0 out0 0=4\n", encoding="utf-8"
    )
    (tmp_path / "encoder.ncnn.bin").touch()
    images = np.full((2, 3, 5, 7), 3, np.float32)
    squares = open_graph(tmp_path, "encoder").run({"image": images}, ("w_plus",))["w_plus"]

    np.testing.assert_array_equal(np.full((2, 3, 5, 7), 9), squares)
    np.testing.assert_array_equal(np.full((2, 3, 5, 7), 3), images)


def test_only_wanted_outputs_come(backend):
    """Whoever asks for pictures gets no floats."""
    assert {"pixels"} == backend.run(codes(1), ("pixels",)).keys()


def test_small_graphs_have_an_instance_for_each_thread(directory, monkeypatch):
    """Small graphs run on one thread each, others on all threads in two instances; instances limit both."""
    small = open_graph(directory, threads=6)
    assert (6, 1) == (small.instances, small.threads)
    assert 3 == open_graph(directory, threads=6, instances=3).instances

    monkeypatch.setattr(ncnn_backend, "SMALL_BYTES", 0)
    large = open_graph(directory, threads=6)
    assert (2, 6) == (large.instances, large.threads)
    assert 1 == open_graph(directory, threads=6, instances=1).instances
    assert 1 == open_graph(directory, threads=1).instances


def test_no_other_device(directory):
    """A device that it cannot use is refused by name."""
    with pytest.raises(BackendUnavailableError, match="not on 'cuda:0'"):
        open_graph(directory, device="cuda:0")


@pytest.mark.parametrize("suffix", ["param", "bin"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_incomplete_files_are_refused(copied, suffix, share):
    """A file that ends too soon is named, with the fix; nothing crashes."""
    path = copied / f"synthesis.ncnn.{suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(BackendUnavailableError, match=f"synthesis.ncnn.{suffix} cannot be read: export the model anew"):
        open_graph(copied)


def test_missing_weights_are_refused(copied):
    """Weights that are not beside the net are named."""
    (copied / "synthesis.ncnn.bin").unlink()

    with pytest.raises(BackendUnavailableError, match=r"synthesis\.ncnn\.bin is missing: export the model anew"):
        open_graph(copied)


@pytest.mark.parametrize(("old", "new"), [("in1", "strength"), ("out0", "levels")])
def test_other_names_are_refused(copied, old, new):
    """A net of another converter, with other names, is refused before it runs."""
    path = copied / "synthesis.ncnn.param"
    path.write_text(re.sub(rf"\b{old}\b", new, path.read_text(encoding="utf-8")), encoding="utf-8")

    with pytest.raises(BackendUnavailableError, match=rf"has .*'{new}'.*, expected .*'{old}'"):
        open_graph(copied)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("w_plus", (2, LAYER_COUNT - 1, W_DIM)), ("w_plus", (2, LAYER_COUNT, W_DIM + 1)), ("noise_strength", (2, 2))],
)
def test_rows_of_another_shape_are_refused(copied, name, shape):
    """Where the file says which rows a graph takes, others are refused: ncnn would read beyond them."""
    path = copied / "synthesis.ncnn.param"
    sizes = {"in0": f"0={W_DIM} 1={LAYER_COUNT}", "in1": "0=1"}
    text = re.sub(
        r"^(Input +\S+ +0 +1 +(in[01])).*$",
        lambda found: f"{found[1]} {sizes[found[2]]}",
        path.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    path.write_text(text, encoding="utf-8")
    backend = open_graph(copied)

    assert (2, 32, 32, 3) == backend.run(codes(2, noise_size=16), ("pixels",))["pixels"].shape
    with pytest.raises(ValueError, match=r"synthesis\.ncnn\.param takes rows of shape"):
        backend.run({**codes(2), name: np.zeros(shape, np.float32)}, ("pixels",))


def test_empty_rows_are_refused(backend):
    """Rows without values are refused, whatever the file says."""
    with pytest.raises(ValueError, match="as in2, not"):
        backend.run({**codes(2), "noise": np.zeros((2, 0), np.float32)}, ("pixels",))


def test_close_frees(directory):
    """A closed graph leaves neither net nor memory of its runs behind."""
    backend = open_graph(directory)
    backend.run(codes(2), ("pixels",))
    pools = backend.pools.get()
    backend.pools.put(pools)
    left = [weakref.ref(each) for each in (backend.net, *pools)]
    del pools
    assert all(each() is not None for each in left)

    backend.close()

    assert [None, None, None] == [each() for each in left]


def test_loading_leaves_the_environment_alone():
    """How long threads spin is set for ncnn only; what is loaded later, such as PyTorch, has its own way."""
    code = (
        "import os, sys\n"
        "os.environ.pop('GOMP_SPINCOUNT', None)\n"
        "import stylewire.server.engine.backends.ncnn\n"
        "sys.exit('GOMP_SPINCOUNT' in os.environ)\n"
    )
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
