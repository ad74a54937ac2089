"""Graphs as ONNX, run by onnxruntime on the CPU or on CUDA."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from stylewire.errors import BackendUnavailableError
from stylewire.server.backends import Arrays, BackendOptions

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OrtBackend:
    """One onnxruntime session."""

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
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        # Spinning threads would take the cores from the codecs and from the event loop.
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session_options.log_severity_level = 3
        settings = {"device_id": index or "0", "use_tf32": "0"} if kind == "cuda" else {}
        self._session = ort.InferenceSession(str(path), session_options, providers=[(provider, settings)])
        # onnxruntime falls back to the CPU without an error; a server must not.
        if self._session.get_providers()[0] != provider:
            raise BackendUnavailableError(f"onnxruntime could not use {provider} for device {options.device!r}")
        self.device = options.device
        self.input_names = tuple(node.name for node in self._session.get_inputs())
        found = [node.name for node in self._session.get_outputs()]
        if found != list(outputs):
            raise BackendUnavailableError(f"{path.name} has the outputs {found}, expected {list(outputs)}")

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """Run one batch; only the outputs asked for are computed and copied."""
        values = self._session.run(list(outputs), {name: inputs[name] for name in self.input_names})
        return dict(zip(outputs, values, strict=True))

    def close(self) -> None:
        """Free the session."""
        del self._session
