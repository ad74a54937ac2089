"""Graphs as ONNX, run by OpenVINO on the CPU: float32, or bf16 where it is asked for and the processor has it."""

import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import openvino as ov
from openvino import properties

from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends import SMALL_BYTES, BackendOptions, graph_name, most_instances
from stylewire.server.engine_api.graphs import Arrays, graph_kind

_BUCKETS = (8, 4, 2, 1)
"""Batch sizes that are compiled: OpenVINO is 1.5 times as slow where the size is open. Only for small graphs: larger
ones gain nothing from batches on a CPU, and each size that is compiled has weights of its own."""
_PRECISIONS = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16}
_Shape: TypeAlias = tuple[tuple[int, ...], ...]
"""Of each input."""


class OpenVinoBackend:
    """A graph in OpenVINO, compiled for each batch size in use.

    A batch of any other size runs as several, the largest first. Noise is filled up to all maps of the network, so that
    requests with and without drawn noise have one shape.

    Attributes:
        compiled: by the shapes of inputs, and whether a batch has the whole device.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> None:
        if options.device != "cpu":
            raise BackendUnavailableError(
                f"openvino runs on the CPU here, not on {options.device!r}: choose --device cpu"
            )
        kind = graph_kind(graph_name(path))
        self._core, self._path = ov.Core(), path
        self._threads = 1 if kind == "mapping" else options.threads
        self.instances = min(most_instances(path, options), self._threads)
        self.exclusive = self.instances > 1
        self.precision = "bf16" if _wants_bf16(kind, options, self._core) else "fp32"
        self._buckets = _BUCKETS if path.stat().st_size < SMALL_BYTES else (1,)
        self._read: ov.Model | None = self._core.read_model(path)
        graph = self._read
        self.input_names = tuple(node.get_any_name() for node in graph.inputs)
        found = [node.get_any_name() for node in graph.outputs]
        if found != list(outputs):
            raise BackendUnavailableError(f"{path.name} has the outputs {found}, expected {list(outputs)}")
        self._noise_size = _find_noise_size(graph)
        self._lock = threading.Lock()
        self.compiled: dict[tuple[_Shape, bool], _Compiled] = {}

    def run(self, inputs: Arrays, outputs: Sequence[str], *, exclusive: bool = False) -> Arrays:
        """Run one batch; only the outputs asked for are copied."""
        given = [self._fill_noise(inputs[name]) if name == "noise" else inputs[name] for name in self.input_names]
        row_count, start, parts = len(given[0]), 0, list[list[np.ndarray]]()
        for size in self._buckets:
            while row_count - start >= size:
                rows = [np.ascontiguousarray(array[start : start + size]) for array in given]
                parts.append(self._find(rows, exclusive=exclusive).run(rows, outputs))
                start += size
        joined = parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]
        return dict(zip(outputs, joined, strict=True))

    def close(self) -> None:
        """Free all that is compiled."""
        self.compiled.clear()

    def _fill_noise(self, noise: np.ndarray) -> np.ndarray:
        """Fill float32[N, P'] up to float32[N, P] with 0, as the network does."""
        row_count, size = noise.shape
        if size >= self._noise_size:
            return noise
        filled = np.zeros((row_count, self._noise_size), np.float32)  # pages that are never written cost nothing
        filled[:, :size] = noise
        return filled

    def _find(self, rows: list[np.ndarray], *, exclusive: bool) -> "_Compiled":
        shape = tuple(array.shape for array in rows)
        if (shape, exclusive) not in self.compiled:
            with self._lock:
                if (shape, exclusive) not in self.compiled:
                    self.compiled[shape, exclusive] = self._compile(shape, exclusive=exclusive)
        return self.compiled[shape, exclusive]

    def _compile(self, shape: _Shape, *, exclusive: bool) -> "_Compiled":
        # The first one is there already; it is not kept for the others, since it holds all weights.
        graph, self._read = self._read or self._core.read_model(self._path), None
        graph.reshape(dict(zip(self.input_names, map(list, shape), strict=True)))
        instances = 1 if exclusive else self.instances
        compiled = self._core.compile_model(
            graph,
            "CPU",
            {
                properties.hint.inference_precision(): _PRECISIONS[self.precision],
                properties.inference_num_threads(): self._threads,
                properties.num_streams(): instances,
                properties.hint.enable_cpu_pinning(): False,  # the event loop and the codecs need the cores too
            },
        )
        # OpenVINO takes another precision than it was told where the processor has none of it, without an error.
        found = compiled.get_property(properties.hint.inference_precision())
        if found != _PRECISIONS[self.precision]:
            raise BackendUnavailableError(f"openvino runs {self._path.name} in {found}, not in {self.precision}")
        return _Compiled(compiled, instances)


class _Compiled:
    """A graph for one batch size, with what several threads need to run it at once."""

    def __init__(self, compiled: ov.CompiledModel, instances: int) -> None:
        self._requests: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
        for _ in range(instances):
            self._requests.put(compiled.create_infer_request())

    def run(self, rows: list[np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        request = self._requests.get()
        try:
            request.infer(rows, share_inputs=True)
            return [request.get_tensor(name).data.copy() for name in outputs]
        finally:
            self._requests.put(request)


def _find_noise_size(graph: ov.Model) -> int:
    """Find P, the size that the graph pads its noise by; 0 if it takes none."""
    for operation in graph.get_ops():
        if operation.get_type_name() == "Pad":
            sources = [value.get_source_output().get_node() for value in operation.inputs()]
            if sources[0].get_friendly_name() == "noise":
                return int(sources[2].data[-1])
    return 0


def _wants_bf16(kind: str, options: BackendOptions, core: ov.Core) -> bool:
    """Return whether a graph runs in bf16; of images only: codes in bf16 are off by more than a percent."""
    if options.precision != "fast" or kind not in {"synthesis", "generator"}:
        return False
    return "BF16" in core.get_property("CPU", properties.device.capabilities())
