"""The onnxruntime backends: what can be told of them without a GPU, on a stand-in that has the rules of one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from stylewire.demo import MODELS
from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends import OUTPUTS, BackendOptions, open_backend
from stylewire.server.engine.backends.onnxruntime import cuda, session, tensorrt
from stylewire.server.engine.backends.onnxruntime.backend import OrtBackend, TensorRtBackend
from stylewire_export.bundle import ExportJob, export_model
from support.fake_onnxruntime import NODES, FakeRuntime
from support.models import random_generator

# --- a stand-in for onnxruntime on CUDA ------------------------------------------------------------------------------


@pytest.fixture
def runtime(monkeypatch):
    """Onnxruntime with a GPU, for the modules that use one."""
    fake = FakeRuntime()
    for module in (cuda, session, tensorrt):
        monkeypatch.setattr(module, "ort", fake)
    return fake


@pytest.fixture
def graph_file(tmp_path):
    """A graph file; its content is of no interest."""
    path = tmp_path / "synthesis.fp16.onnx"
    path.write_bytes(b"graph")
    return path


@pytest.fixture
def backend(runtime, graph_file):
    """The graph on the GPU that is none."""
    backend = OrtBackend(graph_file, OUTPUTS["synthesis"], BackendOptions(device="cuda"))
    yield backend
    backend.close()


def codes(row_count, noise_size=1, seed=0):
    generator = np.random.default_rng(seed)
    levels = np.arange(row_count, dtype=np.float32) * 3 + 1
    return {
        "w_plus": np.tile(levels[:, None, None], (1, 10, 16)),
        "noise_strength": np.ones(row_count, np.float32),
        "noise": generator.standard_normal((row_count, noise_size), np.float32) * (noise_size > 1),
    }


def test_backend_says_what_it_is(backend):
    """Device and precision are those of the GPU and of the file."""
    assert ("onnxruntime", "cuda:0", "fp16", 1, False) == (
        backend.name,
        backend.device,
        backend.precision,
        backend.instances,
        backend.exclusive,
    )
    assert ("w_plus", "noise_strength", "noise") == backend.input_names


@pytest.mark.parametrize("row_count", [1, 2, 3, 5, 7, 8, 11, 24, 40])
def test_rows_come_in_order(backend, row_count):
    """Whatever the sizes of the parts, each row gets its own answer and no other."""
    found = backend.run(codes(row_count), OUTPUTS["synthesis"])

    np.testing.assert_array_equal(np.arange(row_count) * 3 + 1, found["pixels"][:, 0, 0, 0])
    np.testing.assert_array_equal(np.arange(row_count, dtype=np.float32) * 3 + 1, found["image"][:, 0, 0, 0])


def test_a_graph_for_each_size_and_choice_of_outputs(backend, runtime):
    """What ran before is replayed: no run searches or allocates twice."""
    for _ in range(3):
        for outputs in (("pixels",), ("image", "pixels")):
            for row_count in (1, 3, 4, 5):
                backend.run(codes(row_count), outputs)
    session = runtime.sessions[0]

    assert 2 * len({1, 4}) == len(session.graphs)
    assert 3 * 2 * (1 + 1 + 1 + 2) == session.replay_count
    assert 2 * len(session.graphs) == sum(session.runs_without_graph.values())


def test_only_wanted_outputs_come(backend, runtime):
    """Whoever asks for pixels gets no floats, and none are bound."""
    assert {"pixels"} == backend.run(codes(2), ("pixels",)).keys()
    assert {("pixels",)} == {entry[0] for entry in runtime.log[1:]}


def test_answers_stay_as_they_are(backend):
    """What was returned does not change when the next batch runs in the same memory."""
    first = backend.run(codes(2), ("image",))["image"]
    kept = first.copy()
    backend.run({**codes(2), "w_plus": codes(2)["w_plus"] * 2}, ("image",))

    np.testing.assert_array_equal(kept, first)


def test_drawn_noise_runs_without_a_graph(backend, runtime):
    """Rows of another shape are given to the session as they are, without a copy that stays."""
    inputs = codes(5, noise_size=16)
    found = backend.run(inputs, ("image",))["image"]

    np.testing.assert_allclose(inputs["noise"].sum(1) + np.arange(5) * 3 + 1, found[:, 0, 0, 0], rtol=1e-5)
    assert [("run", 5, "CUDAExecutionProvider")] == runtime.log[1:]
    assert not runtime.sessions[0].graphs


def test_several_threads_at_once(runtime, graph_file):
    """Each session stays in its thread, whoever calls."""
    backend = OrtBackend(graph_file, OUTPUTS["synthesis"], BackendOptions(device="cuda:0", instances=2))
    counts = [1 + n % 9 for n in range(40)]
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(lambda count: backend.run(codes(count), ("pixels",))["pixels"], counts))
    backend.close()

    assert 2 == backend.instances == len({session.thread for session in runtime.sessions})
    for count, pixels in zip(counts, found, strict=True):
        np.testing.assert_array_equal(np.arange(count) * 3 + 1, pixels[:, 0, 0, 0])


@pytest.mark.parametrize("fault", [{"opens": False}, {"fails_at": 4}], ids=["when opened", "at a size"])
def test_what_cannot_be_captured_runs_without(runtime, graph_file, caplog, fault):
    """A graph with a node on the CPU, or one that waits, still runs on the GPU, and the log says how."""
    vars(runtime).update(fault)
    backend = OrtBackend(graph_file, OUTPUTS["synthesis"], BackendOptions(device="cuda"))
    found = [backend.run(codes(count), ("pixels",))["pixels"] for count in (1, 4, 1, 8)]
    backend.close()

    assert ["WARNING"] == [record.levelname for record in caplog.records]
    assert "without CUDA graphs" in caplog.text
    assert "0" == runtime.sessions[-1].options["enable_cuda_graph"]
    for pixels in found:
        np.testing.assert_array_equal(np.arange(len(pixels)) * 3 + 1, pixels[:, 0, 0, 0])


def test_a_missing_library_is_told(runtime, graph_file):
    """Onnxruntime goes on on the CPU where it cannot load CUDA; the server does not."""
    runtime.loads = "CPUExecutionProvider"
    with pytest.raises(BackendUnavailableError, match=r"could not load CUDAExecutionProvider.*stylewire\[gpu\]"):
        OrtBackend(graph_file, OUTPUTS["synthesis"], BackendOptions(device="cuda"))


def test_an_option_that_was_not_taken_is_told(runtime, graph_file):
    """What runs is what was asked for, not another arithmetic."""
    runtime.taken = {"use_tf32": "1"}
    with pytest.raises(BackendUnavailableError, match="runs CUDAExecutionProvider with use_tf32=1"):
        OrtBackend(graph_file, OUTPUTS["synthesis"], BackendOptions(device="cuda"))


# --- TensorRT --------------------------------------------------------------------------------------------------------


def test_tensorrt_builds_for_all_sizes(tmp_path):
    """The profile spans all batch sizes; rows have the shape that they have without drawn noise."""
    options = tensorrt.tensorrt_options(1, NODES, half=True, cache=tmp_path)

    assert "w_plus:1x10x16,noise_strength:1,noise:1x1" == options["trt_profile_min_shapes"]
    assert "w_plus:32x10x16,noise_strength:32,noise:32x1" == options["trt_profile_max_shapes"]
    assert ("1", "1", str(tmp_path)) == (
        options["device_id"],
        options["trt_fp16_enable"],
        options["trt_engine_cache_path"],
    )


def test_engines_are_kept_apart(graph_file, tmp_path, monkeypatch):
    """Equal graphs with other weights have other engines, which nobody else can write."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = tensorrt.engine_folder(graph_file)
    again = tensorrt.engine_folder(graph_file)
    graph_file.write_bytes(b"other weights")
    other = tensorrt.engine_folder(graph_file)

    assert first == again != other
    assert tmp_path / "cache" / "stylewire" / "tensorrt" == first.parent
    assert 0o700 == first.stat().st_mode & 0o777


def test_engines_need_no_place(graph_file, tmp_path, monkeypatch):
    """Without a folder to write to, engines are built at every start."""
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert tensorrt.engine_folder(graph_file) is None
    assert "trt_engine_cache_enable" not in tensorrt.tensorrt_options(0, NODES, half=False, cache=None)


def test_tensorrt_leaves_other_shapes_to_cuda(runtime, graph_file, tmp_path, monkeypatch):
    """Drawn noise is outside the engine's profile, so that a CUDA session takes it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    backend = TensorRtBackend(graph_file, OUTPUTS["synthesis"], BackendOptions(device="cuda"))
    backend.run(codes(2), ("pixels",))
    backend.run(codes(2, noise_size=16), ("pixels",))
    backend.close()

    assert (("pixels",), 2, "TensorrtExecutionProvider") == runtime.log[-2]
    assert ("run", 2, "CUDAExecutionProvider") == runtime.log[-1]
    assert ("tensorrt", "fp16") == (backend.name, backend.precision)


@pytest.mark.parametrize(("override", "expected"), [(None, "tf32"), ("0", "fp32")])
def test_tensorrt_says_that_it_rounds(runtime, tmp_path, monkeypatch, override, expected):
    """TensorRT multiplies float32 as TF32, so that it is judged by the bound for arithmetic that is not exact."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    path = tmp_path / "synthesis.onnx"
    path.write_bytes(b"graph")

    assert expected == TensorRtBackend(path, OUTPUTS["synthesis"], BackendOptions(device="cuda")).precision


# --- without a GPU ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime was built for GPUs"
)
@pytest.mark.parametrize("backend_type", [OrtBackend, TensorRtBackend])
def test_a_gpu_needs_another_package(backend_type):
    """Whoever asks for a GPU without the package for it is told which one to install."""
    with pytest.raises(BackendUnavailableError, match=r"install 'stylewire\[gpu\]' without 'stylewire\[cpu\]'"):
        backend_type(MODELS / "avatars" / "mapping.onnx", OUTPUTS["mapping"], BackendOptions(device="cuda:0"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_torchscript_needs_a_gpu(device):
    """PyTorch without a GPU does not go on on the CPU."""
    with pytest.raises(BackendUnavailableError, match="finds no GPU"):
        open_backend("torchscript", Path("mapping.pt"), BackendOptions(device=device))


def test_tensorrt_needs_a_gpu():
    """TensorRT has no CPU."""
    with pytest.raises(BackendUnavailableError, match="choose --device cuda"):
        TensorRtBackend(MODELS / "avatars" / "mapping.onnx", OUTPUTS["mapping"], BackendOptions())


def test_half_precision_runs_on_the_cpu_too(tmp_path):
    """A file in half precision loads where there is no GPU, gives nearly the same picture, and says what it is."""
    checkpoint = tmp_path / "seeded.pt"
    torch.save({"g_ema": random_generator(seed=1).state_dict()}, checkpoint)
    export_model(ExportJob(generator=checkpoint, name="half", out=tmp_path, formats=("onnx", "onnx-fp16")))
    full, half = (
        open_backend("onnxruntime", tmp_path / "half" / f"synthesis{suffix}", BackendOptions())
        for suffix in (".onnx", ".fp16.onnx")
    )
    with np.load(tmp_path / "half" / "check.npz") as vectors:
        inputs = {name: vectors[f"synthesis.in.{name}"] for name in full.input_names}
    pixels = [backend.run(inputs, ("pixels",))["pixels"].astype(int) for backend in (full, half)]

    assert ("fp32", "fp16") == (full.precision, half.precision)
    assert np.abs(pixels[0] - pixels[1]).max() <= 3
