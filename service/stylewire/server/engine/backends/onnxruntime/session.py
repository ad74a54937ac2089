"""Opens onnxruntime sessions that run on the device that was asked for, or not at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import onnxruntime as ort

from stylewire.errors import BackendUnavailableError

Provider: TypeAlias = tuple[str, dict[str, str]]
"""Name of an execution provider, and its options."""
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

_CHECKED = frozenset({"device_id", "enable_cuda_graph", "prefer_nhwc", "use_tf32", "trt_fp16_enable"})
"""Options that a session must have taken as they were given."""


def require_provider(name: str, device: str) -> None:
    """Raise where the installed onnxruntime was not built for a device.

    Raises:
        BackendUnavailableError: with what to install.
    """
    if name not in ort.get_available_providers():
        raise BackendUnavailableError(
            f"onnxruntime here has no {name} for device {device!r}: install 'stylewire[gpu]' without 'stylewire[cpu]', "
            "or choose --device cpu"
        )


def open_session(
    path: Path, outputs: Sequence[str], providers: Sequence[Provider], options: ort.SessionOptions
) -> ort.InferenceSession:
    """Open a graph file.

    Raises:
        BackendUnavailableError: the first provider or one of its options was not taken, or the outputs are others.
    """
    name, asked = providers[0]
    # Without enable_fallback=0, onnxruntime prints an error and goes on on the CPU; a server must not.
    session = ort.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)
    if session.get_providers()[0] != name:  # where a library is missing it goes on on the CPU all the same
        raise BackendUnavailableError(
            f"onnxruntime {ort.__version__} could not load {name}: its log names the missing library; "
            "pip install 'stylewire[gpu]' brings CUDA and cuDNN, and --device cpu works"
        )
    taken = session.get_provider_options()[name]
    wrong = [f"{key}={taken.get(key)}" for key in sorted(_CHECKED & asked.keys()) if taken.get(key) != asked[key]]
    if wrong:
        raise BackendUnavailableError(f"onnxruntime {ort.__version__} runs {name} with {', '.join(wrong)}")
    found = [node.name for node in session.get_outputs()]
    if found != list(outputs):
        raise BackendUnavailableError(f"{path.name} has the outputs {found}, expected {list(outputs)}")
    return session
