"""Graphs as ONNX, run by onnxruntime on the CPU, on CUDA or by TensorRT."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends import BackendOptions, graph_name, most_instances
from stylewire.server.engine.backends.cuda_graphs import precision_of
from stylewire.server.engine.backends.onnxruntime.cuda import CudaSessions
from stylewire.server.engine.backends.onnxruntime.session import CPU, open_session, require_provider
from stylewire.server.engine.backends.onnxruntime.tensorrt import TensorRtSessions
from stylewire.server.engine_api.graphs import Arrays, graph_kind


class CpuSessions:
    """A graph in onnxruntime on the CPU.

    Several batches run side by side, each with its share of the threads: that wastes nothing on waiting for one another
    (1.1 to 1.3 times the throughput of all threads on one batch). A second session with all threads takes what comes
    alone.
    """

    def __init__(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> None:
        require_provider(CPU, options.device)
        self.device, self.precision = options.device, precision_of(path)
        self._path, self._outputs = path, outputs
        threads = 1 if graph_kind(graph_name(path)) == "mapping" else options.threads  # too small to be shared
        self.instances = min(most_instances(path, options), threads)
        self.exclusive = self.instances > 1
        self._session = self._open(threads // self.instances)
        self._exclusive_session = self._open(threads) if self.exclusive else self._session
        self.input_names = tuple(node.name for node in self._session.get_inputs())

    def run(self, inputs: Arrays, outputs: Sequence[str], *, exclusive: bool = False) -> Arrays:
        """Run one batch; only the outputs asked for are computed."""
        session = self._exclusive_session if exclusive else self._session
        values = session.run(list(outputs), {name: inputs[name] for name in self.input_names})
        return dict(zip(outputs, values, strict=True))

    def close(self) -> None:
        """Free the sessions."""
        del self._session, self._exclusive_session

    def _open(self, threads: int) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads spin between the layers of a run, which halves their waits, and not after it: the cores are needed.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3
        return open_session(self._path, self._outputs, [(CPU, {})], options)


class OrtBackend:
    """A graph in onnxruntime, on the CPU or on CUDA."""

    name = "onnxruntime"

    def __init__(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> None:
        self._sessions = self._open(path, outputs, options)
        self.device, self.precision = self._sessions.device, self._sessions.precision
        self.instances, self.exclusive = self._sessions.instances, self._sessions.exclusive
        self.input_names = self._sessions.input_names

    def run(self, inputs: Arrays, outputs: Sequence[str], *, exclusive: bool = False) -> Arrays:
        """Run one batch; only the outputs asked for are computed and copied."""
        return self._sessions.run(inputs, outputs, exclusive=exclusive)

    def close(self) -> None:
        """Free the sessions."""
        self._sessions.close()

    def _open(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> CpuSessions | CudaSessions:
        sessions = CpuSessions if options.device == "cpu" else CudaSessions
        return sessions(path, outputs, options)


class TensorRtBackend(OrtBackend):
    """A graph in TensorRT, through onnxruntime."""

    name = "tensorrt"

    def _open(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> CudaSessions:
        if options.device == "cpu":
            raise BackendUnavailableError("tensorrt runs on NVIDIA GPUs only: choose --device cuda")
        return TensorRtSessions(path, outputs, options)
