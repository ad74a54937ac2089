"""Serve with tritonserver (of ``.ci/fetch-triton``): Python backend, dynamic batching, gRPC v2."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from serving.peers.settings import Settings, free_port

TRITON = Path(__file__).parents[4] / "build" / "triton" / "pytriton" / "tritonserver"
CONFIG = """
backend: "python"
max_batch_size: {batch_size}
input [{{ name: "seed", data_type: TYPE_INT64, dims: [1] }}]
output [{{ name: "image", data_type: TYPE_UINT8, dims: [-1] }}]
instance_group [{{ kind: KIND_CPU, count: {workers} }}]
dynamic_batching {{ max_queue_delay_microseconds: {wait_us} }}
"""


def write_repository(folder: Path, settings: Settings) -> None:
    """Write a model repository with the one model ``generator``."""
    version = folder / "generator" / "1"
    version.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("model.py"), version)
    config = CONFIG.format(
        batch_size=settings.batch_size, workers=settings.workers, wait_us=int(settings.wait_ms * 1000)
    )
    (version.parent / "config.pbtxt").write_text(config)


if __name__ == "__main__":
    chosen = Settings.load()
    repository = Path(sys.prefix) / f"repository-{Path(chosen.model).name}"
    write_repository(repository, chosen)
    os.environ["PYTHONPATH"] += f":{sysconfig.get_path('purelib')}"
    options = {
        "model-repository": repository,
        "backend-directory": TRITON / "backends",
        "grpc-address": "127.0.0.1",
        "grpc-port": chosen.port,
        "metrics-port": free_port(),
        "allow-http": "false",
    }
    command = [str(TRITON / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in options.items())]
    os.execv(command[0], command)  # noqa: S606
