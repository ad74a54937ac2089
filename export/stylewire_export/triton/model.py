"""Run a graph of stylewire with onnxruntime in the Python backend of Triton.

``stylewire-export triton-repository --variant python`` copies this file into a version folder as it is, beside the
graph, ``model.onnx``. It needs numpy 1 and onnxruntime (on a GPU: onnxruntime-gpu) for the Python that the backend was
built for, installed there or in a folder that PYTHONPATH names.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The backend's Python ignores the variable. First in the path, or packages of the image are taken instead.
sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
# onnxruntime would report its use to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np  # noqa: E402 - after the path is set
import onnxruntime as ort  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

_CUDA = {"cudnn_conv_use_max_workspace": "1", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}


class TritonPythonModel:
    """A session of onnxruntime; the requests of one ``execute`` are one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph on the device of the instance.

        Raises:
            pb_utils.TritonModelException: numpy 2 is installed, or onnxruntime has no CUDA for a GPU instance.
        """
        if int(np.__version__.partition(".")[0]) > 1:
            # Backends that were built before numpy 2 mistake its arrays: requests are misread and no bytes are sent.
            raise pb_utils.TritonModelException(f"numpy {np.__version__} is here: install numpy<2 for Triton's Python")
        config = json.loads(args["model_config"])
        threads = config["parameters"].get("intra_op_thread_count", {"string_value": "0"})
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(threads["string_value"])
        options.log_severity_level = 3
        providers: list[Any] = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            ort.preload_dlls()  # CUDA and cuDNN, where pip installed them
            providers = [("CUDAExecutionProvider", {"device_id": args["model_instance_device_id"], **_CUDA})]
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        # Without enable_fallback=0, onnxruntime goes on on the CPU where there is no GPU.
        self._session = ort.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
        if args["model_instance_kind"] == "GPU" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise pb_utils.TritonModelException(
                "onnxruntime has no CUDA here: install onnxruntime-gpu, or use KIND_CPU"
            )
        self._inputs = [each["name"] for each in config["input"]]
        self._outputs = [each["name"] for each in config["output"]]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run the requests that are not cancelled as one batch, and only the outputs that any of them names."""
        cancelled = [request.is_cancelled() for request in requests]
        live = [request for request, dead in zip(requests, cancelled, strict=True) if not dead]
        responses = iter(self._respond(live) if live else ())
        return [_refuse("cancelled", pb_utils.TritonError.CANCELLED) if dead else next(responses) for dead in cancelled]

    def _respond(self, requests: Sequence[Any]) -> list[Any]:
        try:
            return self._run(requests)
        except Exception as err:  # noqa: BLE001 - callers get one sentence whatever it is, and the log gets the rest
            pb_utils.Logger.log_error(f"{type(err).__name__}: {err}")
            text = "the graph failed; the log of Triton says why"
            return [_refuse(text, pb_utils.TritonError.INTERNAL) for _ in requests]

    def _run(self, requests: Sequence[Any]) -> list[Any]:
        rows = [
            [pb_utils.get_input_tensor_by_name(each, name).as_numpy() for each in requests] for name in self._inputs
        ]
        counts = [len(array) for array in rows[0]]
        feed = {
            name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            for name, arrays in zip(self._inputs, rows, strict=True)
        }
        requested = [set(each.requested_output_names()) for each in requests]
        names = [name for name in self._outputs if any(name in some for some in requested)]
        values = dict(zip(names, self._session.run(names, feed), strict=True))
        responses, start = [], 0
        for count, some in zip(counts, requested, strict=True):
            tensors = [pb_utils.Tensor(name, values[name][start : start + count]) for name in names if name in some]
            responses.append(pb_utils.InferenceResponse(tensors))
            start += count
        return responses


def _refuse(text: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))
