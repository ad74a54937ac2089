"""TorchScript on CUDA, as far as it can be told without a GPU: on a stand-in that records a graph and replays it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stylewire.server.engine.backends import BackendOptions, cuda_graphs, open_backend, torchscript
from support.models import export_random_model

CPU = torch.device("cpu")


class Recorder(TorchDispatchMode):
    """What a CUDA graph is: the operations of a run, with the memory that they read and write."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.operations.append((operation, args, kwargs or {}, result))
        return result


class FakeGraph:
    recorder: Recorder

    def replay(self):
        for operation, args, kwargs, result in self.recorder.operations:
            found = operation(*args, **kwargs)
            if isinstance(result, torch.Tensor) and result.data_ptr() != found.data_ptr():  # else it is a view
                result.copy_(found)


class FakeStream:
    def __init__(self, device):
        self.device = device

    def synchronize(self):
        pass


class FakeCuda:
    """The module torch.cuda, with a GPU that is the CPU."""

    CUDAGraph, Stream = FakeGraph, FakeStream

    def __init__(self):
        self.graph_count = 0

    def __getattr__(self, name):
        return {
            "device_count": lambda: 1,
            "graph_pool_handle": lambda: (0, 1),
            "device": lambda _: nullcontext(),
            "stream": lambda _: nullcontext(),
            "synchronize": lambda _: None,
        }[name]

    @contextmanager
    def graph(self, graph, pool, stream, capture_error_mode):
        assert cuda_graphs.CAPTURE_LOCK.capturing
        assert ((0, 1), "thread_local") == (pool, capture_error_mode)
        self.graph_count += 1
        graph.recorder = Recorder()
        with graph.recorder:
            yield


class TorchWithGpu:
    """The module torch; pinned memory is memory."""

    def __init__(self):
        self.cuda = FakeCuda()

    def __getattr__(self, name):
        return getattr(torch, name)

    def device(self, name):
        assert name == "cuda:0"
        return CPU

    def zeros(self, *args, pin_memory, **options):
        return torch.zeros(*args, **options)

    def empty(self, *args, pin_memory, **options):
        return torch.empty(*args, **options)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The traced synthesis network of a random model."""
    return export_random_model(tmp_path_factory.mktemp("models"), "random", seed=1) / "synthesis.pt"


@pytest.fixture
def gpu(monkeypatch):
    """PyTorch with a GPU."""
    load = torchscript.load_module
    fake = TorchWithGpu()
    monkeypatch.setattr(torchscript, "torch", fake)
    monkeypatch.setattr(torchscript, "load_module", lambda path, device: load(path, {"cuda:0": "cpu"}[device]))
    monkeypatch.setattr(torch.backends, "cudnn", SimpleNamespace())
    return fake.cuda


@pytest.fixture
def backend(gpu, path):
    """The network on the GPU that is none."""
    return open_backend("torchscript", path, BackendOptions(device="cuda"))


@pytest.fixture(scope="module")
def reference(path):
    """The network on the CPU."""
    return open_backend("torchscript", path, BackendOptions())


def codes(row_count, noise_size=1):
    generator = np.random.default_rng(0)
    return {
        "w_plus": generator.standard_normal((row_count, 8, 16), np.float32),
        "noise_strength": np.ones(row_count, np.float32),
        "noise": generator.standard_normal((row_count, noise_size), np.float32),
    }


@pytest.mark.parametrize("row_count", [1, 3, 5, 8, 11])
def test_batches_of_any_size(backend, reference, row_count):
    """Rows come in order, in memory without gaps, whatever sizes they ran in; graphs read new inputs."""
    expected = reference.run(codes(row_count), ("pixels", "image"))
    backend.run({**codes(row_count), "w_plus": codes(row_count)["w_plus"] * 2}, ("image",))
    found = backend.run(codes(row_count), ("pixels", "image"))

    assert np.abs(found["pixels"].astype(int) - expected["pixels"]).max() <= 1
    assert np.abs(found["image"] - expected["image"]).max() < 1e-4
    assert found["pixels"].flags.c_contiguous
    assert ("cuda:0", "fp32") == (backend.device, backend.precision)


def test_a_size_is_captured_once(backend, gpu):
    """Batches of 3 and 4 rows share a graph, and drawn noise has none."""
    for row_count in (3, 4, 3, 4):
        backend.run(codes(row_count), ("pixels",))
    backend.run(codes(2, noise_size=64), ("pixels",))

    assert 1 == gpu.graph_count


def test_drawn_noise(backend, reference):
    """Rows of another shape run as they are."""
    found = backend.run(codes(2, noise_size=64), ("image",))["image"]

    assert np.abs(found - reference.run(codes(2, noise_size=64), ("image",))["image"]).max() < 1e-4


def test_several_threads_at_once(backend):
    """Batches that come at once do not mix, and answers stay as they are."""
    counts = [1, 2, 3, 4, 5] * 4
    alone = {count: backend.run(codes(count), ("pixels",))["pixels"].copy() for count in set(counts)}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda count: backend.run(codes(count), ("pixels",))["pixels"], counts))

    for count, pixels in zip(counts, together, strict=True):
        np.testing.assert_array_equal(alone[count], pixels)
