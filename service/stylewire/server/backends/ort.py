"""Graphs as ONNX, run by onnxruntime on the CPU or on CUDA."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from stylewire.errors import BackendUnavailableError
from stylewire.server.backends import Arrays, BackendOptions, graph_kind, most_instances

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OrtBackend:
    """A graph in onnxruntime.

    On the CPU several batches run side by side, each with its share of the threads: that wastes nothing on waiting for
    one another (1.1 to 1.3 times the throughput of all threads on one batch). A second session with all threads takes
    what comes alone.
    """

    name = "onnxruntime"
    precision = "fp32"

    def __init__(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> None:
        kind, _, index = options.device.partition(":")
        provider = _PROVIDERS[kind]
        if provider not in ort.get_available_providers():
            raise BackendUnavailableError(
                f"onnxruntime here has no {provider} for device {options.device!r}: install 'stylewire[gpu]' without "
                "'stylewire[cpu]', or choose --device cpu"
            )
        self.device = options.device
        self._path, self._provider, self._outputs = path, provider, list(outputs)
        self._options = {"device_id": index or "0", "use_tf32": "0"} if kind == "cuda" else {}
        threads = 1 if graph_kind(path.stem) == "mapping" else options.threads  # too small to be shared by threads
        self.slots = min(most_instances(path, options), threads)
        self.wide = self.slots > 1
        self._session = self._open(threads // self.slots)
        self._wide_session = self._open(threads) if self.wide else self._session
        self.input_names = tuple(node.name for node in self._session.get_inputs())

    def run(self, inputs: Arrays, outputs: Sequence[str], *, wide: bool = False) -> Arrays:
        """Run one batch; only the outputs asked for are computed and copied."""
        session = self._wide_session if wide else self._session
        values = session.run(list(outputs), {name: inputs[name] for name in self.input_names})
        return dict(zip(outputs, values, strict=True))

    def close(self) -> None:
        """Free the sessions."""
        del self._session, self._wide_session

    def _open(self, threads: int) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads spin between the layers of a run, which halves their waits, and not after it: the cores are needed.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3
        session = ort.InferenceSession(str(self._path), options, providers=[(self._provider, self._options)])
        # onnxruntime falls back to the CPU without an error; a server must not.
        if session.get_providers()[0] != self._provider:
            raise BackendUnavailableError(f"onnxruntime could not use {self._provider} for device {self.device!r}")
        found = [node.name for node in session.get_outputs()]
        if found != self._outputs:
            raise BackendUnavailableError(f"{self._path.name} has the outputs {found}, expected {self._outputs}")
        return session
