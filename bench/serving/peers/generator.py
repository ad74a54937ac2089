"""What every peer runs: seeds -> JPEG files, one batch at a time. Only numpy, onnxruntime and simplejpeg."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
import simplejpeg

from serving.peers.settings import Settings


class Generator:
    """Both graphs of a model.

    Args:
        folder: a model directory of stylewire.
        threads: of onnxruntime.
    """

    def __init__(self, folder: str, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Spinning threads would take the cores from the server; stylewire has the same setting.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._mapping, self._synthesis = (
            ort.InferenceSession(str(Path(folder) / f"{graph}.onnx"), options, providers=["CPUExecutionProvider"])
            for graph in ("mapping", "synthesis")
        )
        self._z_dim = self._mapping.get_inputs()[0].shape[1]
        self._layer_count = self._synthesis.get_inputs()[0].shape[1]

    @classmethod
    def load(cls) -> Self:
        """Open the model of the environment."""
        settings = Settings.load()
        generator = cls(settings.model, settings.threads)
        generator.generate(range(settings.batch_size))
        return generator

    def generate(self, seeds: Sequence[int]) -> list[bytes]:
        """Make one JPEG file a seed, in one batch."""
        z = np.concatenate([np.random.RandomState(seed).randn(1, self._z_dim) for seed in seeds]).astype(np.float32)
        (w,) = self._mapping.run(["w"], {"z": z})
        code = np.repeat(w[:, None], self._layer_count, axis=1)  # [N, L, D]
        noise = {"noise_strength": np.ones(len(z), np.float32), "noise": np.zeros((len(z), 1), np.float32)}
        (pixels,) = self._synthesis.run(["pixels"], {"w_plus": code, **noise})  # [N, H, W, C]
        return [bytes(simplejpeg.encode_jpeg(picture, 90, "RGB", "444")) for picture in pixels]
