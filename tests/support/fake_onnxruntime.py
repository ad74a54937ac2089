"""A stand-in for onnxruntime on CUDA that has the rules of one: what may be captured, and when."""

import threading
from types import SimpleNamespace

import numpy as np

from stylewire.server.engine.backends import cuda_graphs

NODES = [
    SimpleNamespace(name="w_plus", type="tensor(float)", shape=["N", 10, 16]),
    SimpleNamespace(name="noise_strength", type="tensor(float)", shape=["N"]),
    SimpleNamespace(name="noise", type="tensor(float)", shape=["N", "noise_size"]),
]
PICTURES = [
    SimpleNamespace(name="pixels", type="tensor(uint8)", shape=["N", 4, 4, 3]),
    SimpleNamespace(name="image", type="tensor(float)", shape=["N", 3, 4, 4]),
]


class FakeValue:
    """Memory of the GPU."""

    def __init__(self, shape, dtype, device, index):
        assert ("cuda", 0) == (device, index)
        self.array = np.zeros(shape, dtype)

    def update_inplace(self, array):
        assert self.array.dtype == array.dtype
        assert array.flags.c_contiguous
        assert self.array.shape == array.shape
        self.array[...] = array

    def numpy(self):
        return self.array.copy()


class FakeBinding:
    def __init__(self):
        self.inputs, self.outputs = {}, {}

    def bind_ortvalue_input(self, name, value):
        self.inputs[name] = value

    def bind_ortvalue_output(self, name, value):
        self.outputs[name] = value


class FakeRunOptions:
    graph_id = 0

    def add_run_config_entry(self, key, value):
        assert key == "gpu_graph_id"
        self.graph_id = int(value)


class FakeSession:
    """Keeps the rules: one thread; a graph needs two runs before, and is bound to its memory."""

    def __init__(self, runtime, providers):
        self.runtime, self.providers = runtime, providers
        self.name, self.options = providers[0]
        self.thread = threading.get_ident()
        self.runs_without_graph = {}
        self.graphs = {}
        self.replay_count = 0

    def get_providers(self):
        return [self.runtime.loads or self.name, "CPUExecutionProvider"]

    def get_provider_options(self):
        return {self.get_providers()[0]: self.options | self.runtime.taken}

    def get_inputs(self):
        return NODES

    def get_outputs(self):
        return PICTURES

    def io_binding(self):
        return FakeBinding()

    def run(self, outputs, inputs, options):
        assert self.thread == threading.get_ident()
        assert options.graph_id == -1
        self.runtime.log.append(("run", len(inputs["w_plus"]), self.name))
        found = self._compute(inputs)
        return [found[name] for name in outputs]

    def run_with_iobinding(self, binding, options):
        assert self.thread == threading.get_ident()
        if not cuda_graphs.CAPTURE_LOCK.capturing:
            assert cuda_graphs.CAPTURE_LOCK.user_count
        key = tuple(id(value) for value in (*binding.inputs.values(), *binding.outputs.values()))
        size = len(binding.inputs["w_plus"].array)
        if options.graph_id < 0:
            self.runs_without_graph[key] = self.runs_without_graph.get(key, 0) + 1
        elif options.graph_id in self.graphs:
            assert key == self.graphs[options.graph_id]
            self.replay_count += 1
        else:
            assert cuda_graphs.CAPTURE_LOCK.capturing
            assert "1" == self.options["enable_cuda_graph"]
            assert self.runs_without_graph[key] >= 2  # it would allocate while it is captured
            if size == self.runtime.fails_at:
                raise RuntimeError("operation not permitted when stream is capturing")
            self.graphs[options.graph_id] = key
        found = self._compute({name: value.array for name, value in binding.inputs.items()})
        for name, value in binding.outputs.items():
            value.array[...] = found[name]
        self.runtime.log.append((tuple(binding.outputs), size, self.name))

    def _compute(self, inputs):
        level = inputs["w_plus"].mean((1, 2)) * inputs["noise_strength"] + inputs["noise"].sum(1)
        image = np.broadcast_to(level[:, None, None, None], (len(level), 3, 4, 4)).astype(np.float32)
        return {"image": image, "pixels": image.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)}


class FakeRuntime:
    """The module onnxruntime, with a GPU."""

    __version__ = "1.0.0"
    RunOptions = FakeRunOptions
    OrtValue = SimpleNamespace(ortvalue_from_shape_and_type=FakeValue)
    SessionOptions = SimpleNamespace

    def __init__(self):
        self.log, self.sessions = [], []
        self.loads, self.taken, self.fails_at, self.opens = None, {}, None, True

    def get_available_providers(self):
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self):
        self.log.append("libraries")

    def InferenceSession(self, path, options, providers, enable_fallback):  # noqa: N802 - onnxruntime's
        assert enable_fallback == 0
        if not self.opens and providers[0][1]["enable_cuda_graph"] == "1":
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
        self.sessions.append(FakeSession(self, providers))
        return self.sessions[-1]
