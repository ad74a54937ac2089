"""The bare runtime: onnxruntime as its documentation shows it, in a loop, z -> pixels."""

import os
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from stylewire.manifest import Manifest
from stylewire.server.engine.backends import BackendOptions, graph_file, open_backend


class BareLoop:
    """One session a graph with the runtime's own defaults and all cores, one batch after the other."""

    def __init__(self, directory: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        self._mapping, self._synthesis = (
            ort.InferenceSession(str(directory / f"{graph}.onnx"), options, providers=["CPUExecutionProvider"])
            for graph in ("mapping", "synthesis")
        )
        self._z_dim = self._mapping.get_inputs()[0].shape[1]
        self._layer_count = self._synthesis.get_inputs()[0].shape[1]

    def run(self, batch_size: int, seconds: float, pause_seconds: float = 0.0) -> tuple[float, list[float]]:
        """Run for some seconds, with pauses between batches; returns images/s and the seconds of each batch."""
        z = np.random.RandomState(0).randn(batch_size, self._z_dim).astype(np.float32)
        inputs = {"noise_strength": np.ones(batch_size, np.float32), "noise": np.zeros((batch_size, 1), np.float32)}
        times: list[float] = []
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            if pause_seconds:
                time.sleep(pause_seconds)
            now = time.perf_counter()
            (w,) = self._mapping.run(["w"], {"z": z})
            inputs["w_plus"] = np.repeat(w[:, None], self._layer_count, axis=1)
            self._synthesis.run(["pixels"], inputs)
            times.append(time.perf_counter() - now)
        return len(times) * batch_size / (time.perf_counter() - started), times

    def best_batch_size(self, sizes: tuple[int, ...], seconds: float) -> int:
        """Find the batch size of the highest throughput: the median of three rounds over all sizes."""
        speeds = {size: sorted(self.run(size, seconds)[0] for _ in range(3))[1] for size in sizes}
        return max(speeds, key=lambda size: speeds[size])


class BackendLoop:
    """The synthesis graph in one of the server's backends, with all cores, one row after the other."""

    def __init__(self, directory: Path, backend: str) -> None:
        manifest = Manifest.read(directory)
        options = BackendOptions(threads=len(os.sched_getaffinity(0)), instances=1)
        file = graph_file(backend, "synthesis", options, manifest.files)
        if file is None:
            raise SystemExit(f"{directory} has no synthesis for {backend}")
        self._backend = open_backend(backend, directory / file, options)
        codes = np.random.RandomState(0).randn(1, manifest.layer_count, manifest.w_dim).astype(np.float32)
        one, zero = np.ones(1, np.float32), np.zeros((1, 1), np.float32)
        self._inputs = {"w_plus": codes, "noise_strength": one, "noise": zero}
        self.run(0)

    def run(self, seconds: float) -> float:
        """Run for some seconds; returns images/s."""
        count, started = 0, time.perf_counter()
        while not count or time.perf_counter() - started < seconds:
            self._backend.run(self._inputs, ("pixels",))
            count += 1
        return count / (time.perf_counter() - started)
