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
from stylewire.server.backends import SMALL_BYTES, Arrays, BackendOptions, graph_kind, graph_name, most_instances

_BUCKETS = (8, 4, 2, 1)
"""Batch sizes that are compiled: OpenVINO is 1.5 times as slow where the size is open. Only for small graphs: larger
ones gain nothing from batches on a CPU, and each size that is compiled has weights of its own."""
_PRECISIONS = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16}
_Shape: TypeAlias = tuple[tuple[int, ...], ...]
"""Of each input."""


class OpenVinoBackend:
    """A graph in OpenVINO, compiled for each batch size in use.

    A batch of any other size runs as several, the largest first. Rows of another shape than those of the warm-up, which
    random noise has, are compiled when they first come.
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
        self.slots = min(most_instances(path, options), self._threads)
        self.wide = self.slots > 1
        self.precision = "bf16" if _wants_bf16(kind, options, self._core) else "fp32"
        self._buckets = _BUCKETS if path.stat().st_size < SMALL_BYTES else (1,)
        graph = self._core.read_model(path)
        self.input_names = tuple(node.get_any_name() for node in graph.inputs)
        found = [node.get_any_name() for node in graph.outputs]
        if found != list(outputs):
            raise BackendUnavailableError(f"{path.name} has the outputs {found}, expected {list(outputs)}")
        self._lock = threading.Lock()
        self._compiled: dict[tuple[_Shape, bool], _Compiled] = {}

    def run(self, inputs: Arrays, outputs: Sequence[str], *, wide: bool = False) -> Arrays:
        """Run one batch; only the outputs asked for are copied."""
        given = [inputs[name] for name in self.input_names]
        row_count, start, parts = len(given[0]), 0, list[list[np.ndarray]]()
        for size in self._buckets:
            while row_count - start >= size:
                rows = [np.ascontiguousarray(array[start : start + size]) for array in given]
                parts.append(self._find(rows, wide=wide).run(rows, outputs))
                start += size
        joined = parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]
        return dict(zip(outputs, joined, strict=True))

    def close(self) -> None:
        """Free all that is compiled."""
        self._compiled.clear()

    def _find(self, rows: list[np.ndarray], *, wide: bool) -> "_Compiled":
        shape = tuple(array.shape for array in rows)
        if (shape, wide) not in self._compiled:
            with self._lock:
                if (shape, wide) not in self._compiled:
                    self._compiled[shape, wide] = self._compile(shape, wide=wide)
        return self._compiled[shape, wide]

    def _compile(self, shape: _Shape, *, wide: bool) -> "_Compiled":
        graph = self._core.read_model(self._path)
        graph.reshape(dict(zip(self.input_names, map(list, shape), strict=True)))
        slots = 1 if wide else self.slots
        compiled = self._core.compile_model(
            graph,
            "CPU",
            {
                properties.hint.inference_precision(): _PRECISIONS[self.precision],
                properties.inference_num_threads(): self._threads,
                properties.num_streams(): slots,
                properties.hint.enable_cpu_pinning(): False,  # the event loop and the codecs need the cores too
            },
        )
        # OpenVINO takes another precision than it was told where the processor has none of it, without an error.
        found = compiled.get_property(properties.hint.inference_precision())
        if found != _PRECISIONS[self.precision]:
            raise BackendUnavailableError(f"openvino runs {self._path.name} in {found}, not in {self.precision}")
        return _Compiled(compiled, slots)


class _Compiled:
    """A graph for one batch size, with what several threads need to run it at once."""

    def __init__(self, compiled: ov.CompiledModel, slots: int) -> None:
        self._requests: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
        for _ in range(slots):
            self._requests.put(compiled.create_infer_request())

    def run(self, rows: list[np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        request = self._requests.get()
        try:
            request.infer(rows, share_inputs=True)
            return [request.get_tensor(name).data.copy() for name in outputs]
        finally:
            self._requests.put(request)


def _wants_bf16(kind: str, options: BackendOptions, core: ov.Core) -> bool:
    """Pictures only: codes in bf16 are off by more than a percent."""
    if options.precision != "fast" or kind not in {"synthesis", "generator"}:
        return False
    return "BF16" in core.get_property("CPU", properties.device.capabilities())
