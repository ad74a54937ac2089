"""Serve with MLServer: gRPC v2, adaptive batching, its own pool of processes."""

import asyncio
import json
import os
import sys
from pathlib import Path

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from serving.peers.generator import Generator
from serving.peers.settings import Settings, free_port


class Runtime(MLModel):
    """INT64 ``seed`` -> BYTES ``image``."""

    async def load(self) -> bool:
        """Open the graphs."""
        self._generator = Generator.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run one batch."""
        seeds = [int(seed) for seed in payload.inputs[0].data]
        files = await asyncio.to_thread(self._generator.generate, seeds)
        output = ResponseOutput(name="image", shape=[len(files), 1], datatype="BYTES", data=files)
        return InferenceResponse(model_name=self.name, outputs=[output])


def write_settings(folder: Path, settings: Settings) -> None:
    """Write MLServer's two files of settings."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = {"http_port": free_port(), "grpc_port": settings.port, "metrics_port": free_port()}
    server = {"host": "127.0.0.1", "parallel_workers": settings.workers, "debug": False, **ports}
    batch = {"max_batch_size": settings.batch_size, "max_batch_time": settings.wait_ms / 1000}
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(
        json.dumps({"name": "generator", "implementation": "serving.peers.mlserver.serve.Runtime", **batch})
    )


if __name__ == "__main__":
    chosen = Settings.load()
    files = Path(sys.prefix) / f"settings-{Path(chosen.model).name}"
    write_settings(files, chosen)
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(files)])  # noqa: S606
