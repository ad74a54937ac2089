"""The graphs of servers under test on one Triton: what ``pytest --triton`` runs the wire tests against."""

import contextlib
import filecmp
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelConfig

from stylewire.demo import MODELS
from stylewire_export.triton.config import Serving
from stylewire_export.triton.repository import find_models, write_repository
from support.triton import RunningTriton, running_triton

_LOADERS = 2
GRAPH = "model.onnx"


def write_graphs(models: Path, repository: Path, *, batched: bool = False, **serving) -> list[str]:
    """Write every graph of some models into a repository; returns their names at Triton.

    Unless ``batched``, Triton makes no batches of batches: ours are made already, and its batcher stalls for half a
    second every now and then where cores are few.
    """
    repository.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=repository.parent) as folder:
        chosen = Serving(**{"variant": "python", "threads": 1, **serving})
        report = write_repository(find_models(models), Path(folder) / "out", chosen, force=False)
        names = [name for name in report.models if "." in name and not name.endswith(".broadcast")]
        for name in names:
            if not batched:
                _leave_batches(report.directory / name / "config.pbtxt")
            if not (repository / name).exists():
                shutil.move(report.directory / name, repository)
            elif not filecmp.cmp(report.directory / name / "1" / GRAPH, repository / name / "1" / GRAPH, shallow=False):
                raise AssertionError(f"two servers under test have graphs named {name}, and Triton has room for one")
    return names


def _leave_batches(path: Path) -> None:
    config = text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    config.ClearField("dynamic_batching")
    path.write_text(text_format.MessageToString(config), encoding="utf-8")


class TritonModels:
    """A Triton that loads models when a server needs them.

    Args:
        triton: started with ``--model-control-mode=explicit``.
        repository: its repository.
    """

    def __init__(self, triton: RunningTriton, repository: Path) -> None:
        self._triton, self._repository = triton, repository
        self._loaded: set[str] = set()

    def settings(self, models: Path | None) -> dict[str, str]:
        """Load the graphs of a folder of models, the demo models if there is none; returns a server's settings."""
        names = set(write_graphs(models or MODELS, self._repository)) - self._loaded
        with ThreadPoolExecutor(_LOADERS) as pool:
            list(pool.map(self._load, sorted(names)))
        self._loaded |= names
        return {"backend": "triton", "triton_url": self._triton.grpc_address}

    def _load(self, name: str) -> None:
        with InferenceServerClient(self._triton.grpc_address) as client:
            client.load_model(name)


@contextlib.contextmanager
def triton_models(folder: Path) -> Iterator[TritonModels]:
    """Start a Triton for the time of a ``with``; its repository is in ``folder``."""
    repository = folder / "repository"
    repository.mkdir()
    with running_triton(repository, ["--model-control-mode=explicit"]) as triton:
        yield TritonModels(triton, repository)
