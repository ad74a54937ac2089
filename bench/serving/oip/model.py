"""The model that tritonserver runs: the same graph with the same runtime; one ``execute`` is one batch."""

import json
import os
import sys
from collections.abc import Sequence

sys.path[:0] = os.environ["PYTHONPATH"].split(":")  # the backend's Python ignores it; first, or another numpy is found

import numpy as np  # noqa: E402 - as said above
import onnxruntime  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402


class TritonPythonModel:
    """FP32 ``w_plus`` [N, L, D] -> UINT8 ``pixels`` [N, R, R, C]."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph."""
        parameters = json.loads(args["model_config"])["parameters"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"]["string_value"])
        graph = parameters["graph"]["string_value"]
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._names = [each.name for each in self._session.get_inputs()]

    def execute(self, requests: Sequence[object]) -> list[object]:
        """Run one batch."""
        codes = [pb_utils.get_input_tensor_by_name(each, "w_plus").as_numpy() for each in requests]
        count = sum(map(len, codes))
        fed = {"w_plus": np.concatenate(codes), "noise_strength": np.ones(count, np.float32)}
        fed["noise"] = np.zeros((count, 1), np.float32)
        (pixels,) = self._session.run(["pixels"], {name: fed[name] for name in self._names})
        ends = np.cumsum([len(each) for each in codes])
        parts = np.split(pixels, ends[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("pixels", part)]) for part in parts]
