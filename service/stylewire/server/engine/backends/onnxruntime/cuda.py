"""Graphs as ONNX on NVIDIA GPUs: buffers that stay where they are, and a CUDA graph for each batch size.

What onnxruntime demands: a captured graph belongs to the thread that captured it, so every session has a thread of its
own; inputs and outputs keep their addresses and shapes, and no node may run on the CPU. A graph that cannot be captured
runs without, and the log says so.
"""

import itertools
import logging
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends import BackendOptions, most_instances
from stylewire.server.engine.backends.cuda_graphs import (
    CAPTURE_LOCK,
    device_index,
    fill_rows,
    join_rows,
    precision_of,
    split_batch,
)
from stylewire.server.engine.backends.onnxruntime.session import CPU, CUDA, Provider, open_session, require_provider
from stylewire.server.engine_api.graphs import Arrays

log = logging.getLogger(__name__)

_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
NO_GRAPH = -1
"""Id of a run that neither captures a graph nor replays one."""

Rows: TypeAlias = Mapping[str, NDArray[Any]]


class Node(Protocol):
    """An input or output of a session."""

    name: str
    type: str
    shape: list[int | str | None]


Open: TypeAlias = Callable[[bool], ort.InferenceSession]
"""Opens a session; the argument says whether it shall capture CUDA graphs."""
OpenFor: TypeAlias = Callable[[Sequence[Node]], ort.InferenceSession]
"""Opens a session for these inputs."""


def row_shape(node: Node) -> tuple[int, ...]:
    """Return the shape of rows that have a graph: an open axis, that of the noise, has one value unless it is drawn."""
    return tuple(side if isinstance(side, int) else 1 for side in node.shape[1:])


def cuda_options(device: int, *, capturing: bool) -> dict[str, str]:
    """Return the options of CUDAExecutionProvider."""
    return {
        "device_id": str(device),
        "arena_extend_strategy": "kSameAsRequested",  # the other strategy doubles what it takes
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "enable_cuda_graph": "1" if capturing else "0",
        "prefer_nhwc": "1",  # what tensor cores read
        "use_tf32": "0",
    }


class CudaSessions:
    """A graph on one GPU; several batches at once only if ``options.instances`` asks for that."""

    exclusive = False

    def __init__(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> None:
        self._index = device_index(options.device)
        self._path, self._outputs = path, outputs
        self.device, self.precision = f"cuda:{self._index}", precision_of(path)
        self.instances = most_instances(path, options)
        self._load_libraries(options.device)
        self._sessions: list[Session] = []
        self._free: queue.SimpleQueue[Session] = queue.SimpleQueue()
        for _ in range(self.instances):
            self._sessions.append(self._make_session())
            self._free.put(self._sessions[-1])
        self.input_names = self._sessions[0].input_names

    def run(self, inputs: Arrays, outputs: Sequence[str], *, exclusive: bool = False) -> Arrays:  # noqa: ARG002
        """Run one batch; only the outputs asked for leave the GPU."""
        session = self._free.get()
        try:
            values = session.run({name: inputs[name] for name in self.input_names}, tuple(outputs))
        finally:
            self._free.put(session)
        return dict(zip(outputs, values, strict=True))

    def close(self) -> None:
        """Free the sessions."""
        for session in self._sessions:
            session.close()

    def _load_libraries(self, device: str) -> None:
        require_provider(CUDA, device)
        ort.preload_dlls()  # CUDA and cuDNN, where pip installed them: the system's loader does not look there

    def _make_session(self) -> "Session":
        return Session(self._index, self._open_cuda)

    def _open_cuda(self, capturing: bool) -> ort.InferenceSession:
        return self._open([(CUDA, cuda_options(self._index, capturing=capturing))])

    def _open(self, providers: list[Provider]) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return open_session(self._path, self._outputs, [*providers, (CPU, {})], options)
        except BackendUnavailableError:
            raise
        except Exception as err:
            if providers[0][1].get("enable_cuda_graph") == "1" and "graph capture" in str(err):
                raise _CaptureError(err) from err
            raise BackendUnavailableError(
                f"onnxruntime cannot run {self._path.name} on {self.device}, --device cpu works: {err}"
            ) from err


class _CaptureError(Exception):
    """A graph cannot be captured; the argument says why."""


class Session:
    """A session with its thread, in which everything runs, and its buffers.

    Args:
        device: index of the GPU.
        open_cuda: opens a session for rows of any shape.
        open_usual: given its inputs, opens another one for rows of the usual shape; None leaves all to the first.
    """

    def __init__(self, device: int, open_cuda: Open, open_usual: OpenFor | None = None) -> None:
        self._device, self._open_cuda, self._open_usual = device, open_cuda, open_usual
        self._capturing = open_usual is None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cuda")
        self._thread.submit(self._open).result()
        self.input_names = tuple(node.name for node in self._session.get_inputs())

    def run(self, inputs: Rows, outputs: tuple[str, ...]) -> list[NDArray[Any]]:
        """Run one batch in the thread of the session; outputs are [N, ...]."""
        return self._thread.submit(self._run, inputs, outputs).result()

    def close(self) -> None:
        """Free all memory of the GPU."""
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _open(self) -> None:
        self._buffers: dict[int, _Buffers] = {}
        self._graph_ids = itertools.count(1) if self._capturing else None
        with CAPTURE_LOCK.shared():
            try:
                self._session = self._open_cuda(self._capturing)
            except _CaptureError as err:
                log.warning("%s; it runs without CUDA graphs", err)
                self._capturing, self._graph_ids = False, None
                self._session = self._open_cuda(False)
            inputs = self._session.get_inputs()
            self._usual = self._open_usual(inputs) if self._open_usual else self._session
        nodes = (*inputs, *self._session.get_outputs())
        self._bindable = all(node.type in _TYPES for node in nodes) and all(
            isinstance(side, int) for node in self._session.get_outputs() for side in node.shape[1:]
        )
        self._usual_rows = {node.name: (row_shape(node), np.dtype(_TYPES.get(node.type))) for node in inputs}

    def _close(self) -> None:
        with CAPTURE_LOCK.shared():
            self._buffers.clear()
            del self._session, self._usual

    def _run(self, inputs: Rows, outputs: tuple[str, ...]) -> list[NDArray[Any]]:
        row_types = {name: (array.shape[1:], array.dtype) for name, array in inputs.items()}
        if not self._bindable or row_types != self._usual_rows:
            with CAPTURE_LOCK.shared():
                values: list[NDArray[Any]] = self._session.run(list(outputs), dict(inputs), _run_options(NO_GRAPH))
            return values
        row_count = len(next(iter(inputs.values())))
        parts = []
        for start, stop, size in split_batch(row_count):
            rows = {name: fill_rows(array[start:stop], size) for name, array in inputs.items()}
            parts.append([array[: stop - start] for array in self._run_bound(rows, outputs, size)])
        return join_rows(parts)

    def _run_bound(self, rows: Rows, outputs: tuple[str, ...], size: int) -> list[NDArray[Any]]:
        try:
            return self._find_buffers(size).run(rows, outputs)
        except _CaptureError as err:
            # A stream that failed to capture is of no more use, and the session has no other.
            log.warning("%d rows cannot be captured, all run without CUDA graphs: %s", size, err)
            self._capturing = False
            self._close()
            self._open()
            return self._find_buffers(size).run(rows, outputs)

    def _find_buffers(self, size: int) -> "_Buffers":
        if size not in self._buffers:
            self._buffers[size] = _Buffers(self._usual, size, self._device, self._graph_ids)
        return self._buffers[size]


class _Buffers:
    """Memory of the GPU for one batch size, and the CUDA graphs that read and write it.

    Args:
        session: takes them.
        size: rows.
        device: index of the GPU.
        graph_ids: yields ids that no graph of the session has; None captures none.
    """

    def __init__(self, session: ort.InferenceSession, size: int, device: int, graph_ids: Iterator[int] | None) -> None:
        self._session, self._size, self._device, self._graph_ids = session, size, device, graph_ids
        self._inputs: dict[str, ort.OrtValue] = {}
        self._outputs: dict[str, ort.OrtValue] = {}
        self._bindings: dict[tuple[str, ...], tuple[ort.IOBinding, ort.RunOptions]] = {}

    def run(self, rows: Rows, outputs: tuple[str, ...]) -> list[NDArray[Any]]:
        """Run as many rows as there is memory for.

        Raises:
            _CaptureError: they run, but not as a graph.
        """
        known = outputs in self._bindings
        with CAPTURE_LOCK.shared() if known else CAPTURE_LOCK.exclusive():
            if not known:
                self._allocate(outputs)
            for name, value in self._inputs.items():
                value.update_inplace(rows[name])
            if not known:
                self._bindings[outputs] = self._bind(outputs)
            self._session.run_with_iobinding(*self._bindings[outputs])
            return [self._outputs[name].numpy() for name in outputs]

    def _allocate(self, outputs: tuple[str, ...]) -> None:
        inputs = self._session.get_inputs() if not self._inputs else []
        missing = [node for node in self._session.get_outputs() if node.name in set(outputs) - self._outputs.keys()]
        for nodes, values in ((inputs, self._inputs), (missing, self._outputs)):
            for node in nodes:
                shape = (self._size, *row_shape(node))
                values[node.name] = ort.OrtValue.ortvalue_from_shape_and_type(
                    shape, _TYPES[node.type], "cuda", self._device
                )

    def _bind(self, outputs: tuple[str, ...]) -> tuple[ort.IOBinding, ort.RunOptions]:
        binding = self._session.io_binding()
        for name, value in self._inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_ortvalue_output(name, self._outputs[name])
        # These search for algorithms and allocate, neither of which may happen while a graph is captured.
        for _ in range(2):
            self._session.run_with_iobinding(binding, _run_options(NO_GRAPH))
        if self._graph_ids is None:
            return binding, _run_options(NO_GRAPH)
        options = _run_options(next(self._graph_ids))
        try:
            self._session.run_with_iobinding(binding, options)  # runs until there is a graph
        except Exception as err:
            raise _CaptureError(err) from err
        return binding, options


def _run_options(graph_id: int) -> ort.RunOptions:
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options
