"""The model that tritonserver's Python backend runs: one ``execute`` is one batch."""

import os
import sys
from collections.abc import Sequence

sys.path[:0] = os.environ["PYTHONPATH"].split(":")  # the backend's Python ignores it; first, or another numpy is found

import numpy as np  # noqa: E402 - as said above
import triton_python_backend_utils as pb_utils  # noqa: E402

from serving.peers.generator import Generator  # noqa: E402


class TritonPythonModel:
    """INT64 ``seed`` [N, 1] -> UINT8 ``image`` [N, bytes]; clients send N = 1."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton calls it so
        """Open the graphs."""
        self._generator = Generator.load()

    def execute(self, requests: Sequence[object]) -> list[object]:
        """Run one batch."""
        seeds = [int(pb_utils.get_input_tensor_by_name(each, "seed").as_numpy()[0, 0]) for each in requests]
        files = (np.frombuffer(file, np.uint8)[None] for file in self._generator.generate(seeds))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("image", file)]) for file in files]
