"""Serve with tritonserver (the one inside nvidia-pytriton): Python backend, dynamic batching, gRPC v2."""

import os
import shutil
import sys
from pathlib import Path

from peers.settings import Settings, free_port

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


def write_backend(folder: Path, triton: Path) -> None:
    """Put the Python backend together with its stub for this Python, which the wheel keeps apart."""
    if not folder.exists():
        shutil.copytree(triton / "backends", folder)
        shutil.copy(triton / "python_backend_stubs" / "3.11" / "triton_python_backend_stub", folder / "python")


if __name__ == "__main__":
    chosen = Settings.load()
    packages = Path(sys.prefix) / "lib" / "python3.11" / "site-packages"
    triton = packages / "pytriton" / "tritonserver"
    repository, backends = Path(sys.prefix) / f"repository-{Path(chosen.model).name}", Path(sys.prefix) / "backends"
    write_repository(repository, chosen)
    write_backend(backends, triton)
    os.environ["PYTHONPATH"] += f":{packages}"
    os.environ["LD_LIBRARY_PATH"] = str(packages / "nvidia_pytriton.libs")
    options = {
        "model-repository": repository,
        "backend-directory": backends,
        "grpc-address": "127.0.0.1",
        "grpc-port": chosen.port,
        "metrics-port": free_port(),
        "allow-http": "false",
    }
    command = [str(triton / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in options.items())]
    os.execv(command[0], command)  # noqa: S606
