"""Graphs as ONNX in TensorRT, through onnxruntime. Engines take minutes to build, so they are kept."""

import hashlib
import importlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import onnxruntime as ort

from stylewire.server.engine.backends import BackendOptions
from stylewire.server.engine.backends.cuda_graphs import SIZES
from stylewire.server.engine.backends.onnxruntime.cuda import CudaSessions, Node, Session, cuda_options, row_shape
from stylewire.server.engine.backends.onnxruntime.session import CUDA, TENSORRT, require_provider

log = logging.getLogger(__name__)

_USUAL_SIZE = 8
"""Batch size that TensorRT makes its kernels for; the others run with the same ones."""


class TensorRtSessions(CudaSessions):
    """A graph in TensorRT; CUDA runs what TensorRT does not take, and rows of another shape, as drawn noise has."""

    def __init__(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> None:
        require_provider(TENSORRT, options.device)
        super().__init__(path, outputs, options)
        # TensorRT rounds the factors of float32 products to 10 bits, unless the environment forbids it.
        if self.precision == "fp32" and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
            self.precision = "tf32"

    def _load_libraries(self, device: str) -> None:
        super()._load_libraries(device)
        with suppress(ImportError):  # loads TensorRT, where pip installed it
            importlib.import_module("tensorrt")

    def _make_session(self) -> Session:
        return Session(self._index, self._open_cuda, self._open_tensorrt)

    def _open_tensorrt(self, nodes: Sequence[Node]) -> ort.InferenceSession:
        half = self.precision == "fp16"
        options = tensorrt_options(self._index, nodes, half=half, cache=engine_folder(self._path))
        return self._open([(TENSORRT, options), (CUDA, cuda_options(self._index, capturing=False))])


def tensorrt_options(device: int, nodes: Sequence[Node], *, half: bool, cache: Path | None) -> dict[str, str]:
    """Return the options of TensorrtExecutionProvider.

    One engine takes all batch sizes. There are no CUDA graphs: onnxruntime's provider captures a single shape.

    Args:
        device: index of the GPU.
        nodes: the inputs.
        half: whether the graph is one in half precision.
        cache: folder for engines, which take minutes to build.
    """
    shapes = {
        f"trt_profile_{bound}_shapes": ",".join(
            f"{node.name}:{'x'.join(map(str, (size, *row_shape(node))))}" for node in nodes
        )
        for bound, size in (("min", min(SIZES)), ("opt", _USUAL_SIZE), ("max", max(SIZES)))
    }
    options = {"device_id": str(device), "trt_fp16_enable": "1" if half else "0", **shapes}
    for kind in ("engine", "timing") if cache else ():
        options |= {f"trt_{kind}_cache_enable": "1", f"trt_{kind}_cache_path": str(cache)}
    return options


def engine_folder(path: Path) -> Path | None:
    """Make the folder for the engines of a graph file, and return it; None if it cannot be made.

    onnxruntime finds an engine by the structure of its graph, so other weights need another folder. An engine is code
    that runs, hence nobody else may write there.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "stylewire" / "tensorrt" / f"{digest[:32]}-{ort.__version__}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as err:  # a file system that cannot be written to, as in many containers
        log.warning("TensorRT builds its engines anew at every start: %s", err)
        return None
    return folder
