"""Graphs as TorchScript, run by PyTorch on the CPU or on CUDA."""

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends import INPUTS, BackendOptions, graph_name
from stylewire.server.engine.backends.cuda_graphs import (
    CAPTURE_LOCK,
    device_index,
    fill_rows,
    join_rows,
    precision_of,
    split_batch,
)
from stylewire.server.engine_api.graphs import Arrays, graph_kind

_WARM_UP_RUNS = 3


class TorchScriptBackend:
    """A traced module, on the CPU or on CUDA."""

    name = "torchscript"
    instances, exclusive = 1, False  # PyTorch's thread pool serves one graph at a time

    def __init__(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> None:
        cuda = options.device != "cpu"
        if cuda and device_index(options.device) >= torch.cuda.device_count():
            raise BackendUnavailableError(
                f"this PyTorch finds no GPU for device {options.device!r}; --device cpu works"
            )
        self.device = f"cuda:{device_index(options.device)}" if cuda else options.device
        self.precision = precision_of(path)
        torch.set_num_threads(options.threads)
        # The profiling executor compiles anew for every batch size it meets: seconds of latency for nothing gained.
        torch._C._jit_set_profiling_executor(False)  # noqa: SLF001 - no public name exists
        module = load_module(path, self.device)
        taken = len(list(module.graph.inputs())) - 1  # the first is the module itself
        self.input_names = INPUTS[graph_kind(graph_name(path))][:taken]
        self._module = _CudaModule(module, self.device) if cuda else _CpuModule(module)
        self._outputs = tuple(outputs)

    def run(self, inputs: Arrays, outputs: Sequence[str], *, exclusive: bool = False) -> Arrays:  # noqa: ARG002
        """Run one batch; only the outputs asked for leave the device."""
        given = {name: inputs[name] for name in self.input_names}
        values = self._module.run(given, [self._outputs.index(name) for name in outputs])
        return dict(zip(outputs, values, strict=True))

    def close(self) -> None:
        """Free the module."""
        del self._module


def load_module(path: Path, device: str | torch.device) -> torch.jit.ScriptModule:
    """Load a traced module; deprecation warnings of TorchScript are filtered."""
    with warnings.catch_warnings():
        # PyTorch would rather have torch.export; TorchScript is what Triton and LibTorch load.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]  # torch ships no types for it
    return module


class _CpuModule:
    """A module that runs as it is."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self._module = module

    def run(self, inputs: Arrays, wanted: list[int]) -> list[NDArray[Any]]:
        """Run one batch and return the outputs of these indices."""
        with torch.inference_mode():
            results = _call(self._module, [torch.from_numpy(array) for array in inputs.values()])
            return [results[index].numpy() for index in wanted]


class _CudaModule:
    """A module on a GPU, with a CUDA graph for each batch size."""

    def __init__(self, module: torch.jit.ScriptModule, device: str) -> None:
        self._module, self._device = module, torch.device(device)
        # Pictures are to be the same as on a CPU; float32 products would otherwise round their factors to 10 bits.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = True  # every batch size has its graph, so it is measured once
        torch._C._jit_override_can_fuse_on_gpu(False)  # noqa: SLF001 - this executor's fuser is no longer maintained
        self._lock = threading.Lock()
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch ships no types for it
        # One graph runs at a time and its outputs are copied before the next, so that all can share their memory.
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[tuple[tuple[int, ...], ...], _Graph] = {}

    def run(self, inputs: Arrays, wanted: list[int]) -> list[NDArray[Any]]:
        """Run one batch and return the outputs of these indices."""
        with self._lock, torch.inference_mode(), torch.cuda.device(self._device):
            if "noise" in inputs and inputs["noise"].shape[1] > 1:  # drawn for this request: rare, and large
                return self._run_eager(list(inputs.values()), wanted)
            row_count = len(next(iter(inputs.values())))
            parts = []
            for start, stop, size in split_batch(row_count):
                rows = [fill_rows(array[start:stop], size) for array in inputs.values()]
                parts.append(self._run_graph(rows, wanted, stop - start))
            return join_rows(parts)

    def _run_eager(self, arrays: list[NDArray[Any]], wanted: list[int]) -> list[NDArray[Any]]:
        with CAPTURE_LOCK.shared(), torch.cuda.stream(self._stream):
            results = _call(self._module, [torch.from_numpy(array).to(self._device) for array in arrays])
            return [results[index].contiguous().cpu().numpy() for index in wanted]

    def _run_graph(self, rows: list[NDArray[Any]], wanted: list[int], row_count: int) -> list[NDArray[Any]]:
        shapes = tuple(array.shape for array in rows)
        if shapes not in self._graphs:
            with CAPTURE_LOCK.exclusive():
                self._graphs[shapes] = _Graph(self._module, shapes, self._stream, self._pool)
        with CAPTURE_LOCK.shared(), torch.cuda.stream(self._stream):
            results = self._graphs[shapes].run(rows)
            copies = [_copy_to_host(results[index][:row_count]) for index in wanted]
            self._stream.synchronize()
        return [copy.numpy() for copy in copies]


class _Graph:
    """One batch size: memory of the processor and of the GPU that stays in its place, and a CUDA graph on it.

    Args:
        module: to run.
        shapes: of the inputs, all float32.
        stream: that it runs on.
        pool: memory for what is between inputs and outputs.
    """

    def __init__(
        self, module: torch.jit.ScriptModule, shapes: tuple[tuple[int, ...], ...], stream: torch.cuda.Stream, pool: Any
    ) -> None:
        self._pinned = [torch.zeros(shape, pin_memory=True) for shape in shapes]
        self._inputs = [pinned.to(stream.device) for pinned in self._pinned]
        torch.cuda.synchronize(stream.device)  # the inputs are there
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_RUNS):  # compiles, searches for algorithms, allocates: nothing that can be captured
                _call(module, self._inputs)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            # Pixels come as a permuted view, which is put in order here, at the memory's speed, not by the processor.
            self._results = tuple(result.contiguous() for result in _call(module, self._inputs))

    def run(self, rows: list[NDArray[Any]]) -> tuple[torch.Tensor, ...]:
        """Start the graph on the current stream; the results are those of all rows, until the next run."""
        for array, pinned, device in zip(rows, self._pinned, self._inputs, strict=True):
            np.copyto(pinned.numpy(), array)
            device.copy_(pinned, non_blocking=True)
        self._graph.replay()
        return self._results


def _copy_to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Begin to copy to pinned memory, which PyTorch takes back when the array is no longer in use."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor, non_blocking=True)


def _call(module: torch.jit.ScriptModule, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    results = module(*inputs)
    return results if isinstance(results, tuple) else (results,)
