"""Backends, which run graphs. A backend is one file with one class; adding one means adding a row to ``_BACKENDS``."""

import importlib
import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from stylewire.errors import BackendUnavailableError
from stylewire.server.config.schema import Precision
from stylewire.server.engine_api.graphs import Arrays, graph_kind

# A server reports to nobody. onnxruntime reports its use to its maker, and keeps an id of the machine in the home
# folder, unless this is set before it is imported; OpenVINO does so by a package, and works as well without that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import of it fails

INPUTS = {
    "mapping": ("z", "label"),
    "synthesis": ("w_plus", "noise_strength", "noise"),
    "encoder": ("image",),
    "generator": ("z", "label"),
}
"""Graph kind -> its inputs, in the order in which a traced module takes them; the last ones may be absent."""
OUTPUTS = {
    "mapping": ("w",),
    "synthesis": ("pixels", "image"),
    "encoder": ("w_plus",),
    "generator": ("pixels", "image"),
}
"""Graph kind -> its outputs, in the order in which a traced module returns them."""


class Backend(Protocol):
    """A loaded graph.

    Attributes:
        name: what runs it, such as ``onnxruntime``.
        device: where it really runs, such as ``cpu`` or ``cuda:0``.
        precision: the arithmetic it really runs in.
        input_names: inputs that the graph really has; others are not fed.
        instances: how many batches at once use the device best.
        exclusive: whether one batch can have the whole device, to be through sooner.
    """

    name: str
    device: str
    precision: str
    input_names: tuple[str, ...]
    instances: int
    exclusive: bool

    def run(self, inputs: Arrays, outputs: Sequence[str], *, exclusive: bool = False) -> Arrays:
        """Run one batch; blocks, and is called by as many threads at once as there are instances."""
        ...

    def close(self) -> None:
        """Free the graph."""
        ...


class Remote(Protocol):
    """Other servers that run the graphs of this one."""

    @property
    def ready(self) -> bool:
        """Whether one of them has all graphs."""
        ...

    def start(self) -> None:
        """Start to resolve and probe them."""
        ...

    def interrupt(self) -> None:
        """End all waits for them."""
        ...

    async def close(self) -> None:
        """End all connections."""
        ...


class RemoteModel(NamedTuple):
    """A model whose graphs run elsewhere.

    Attributes:
        servers: where they run.
        model: its name.
        version: its version; empty where it has only one.
    """

    servers: Remote
    model: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOptions:
    """How other servers are reached.

    Attributes:
        addresses: each as ``host:port``.
        tls_ca: PEM file of the authorities that signed their certificates; None for no TLS.
        shared_memory: whether tensors travel in shared memory where that works.
        patience_seconds: how long a batch is waited for.
    """

    addresses: tuple[str, ...]
    tls_ca: Path | None = None
    shared_memory: bool = True
    patience_seconds: float = 48.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """Options of a backend.

    Attributes:
        remote: the model, if its graphs run elsewhere.
        device: such as ``cpu`` or ``cuda:0``.
        threads: that a graph computes with.
        instances: batches of a graph that run at once; 0 lets the backend choose.
        precision: ``fast`` allows an arithmetic other than float32 where that is known to be close enough.
    """

    device: str = "cpu"
    threads: int = 1
    instances: int = 0
    precision: Precision = "parity"
    remote: RemoteModel | None = None


_BACKENDS = {
    "onnxruntime": ("stylewire.server.engine.backends.onnxruntime.backend", "OrtBackend", ".onnx", "cpu' or 'gpu"),
    "openvino": ("stylewire.server.engine.backends.openvino", "OpenVinoBackend", ".onnx", "openvino"),
    "ncnn": ("stylewire.server.engine.backends.ncnn", "NcnnBackend", ".ncnn.param", "ncnn"),
    "tensorrt": ("stylewire.server.engine.backends.onnxruntime.backend", "TensorRtBackend", ".onnx", "gpu"),
    "torchscript": ("stylewire.server.engine.backends.torchscript", "TorchScriptBackend", ".pt", "torch"),
    "triton": ("stylewire.server.engine.backends.triton.backend", "TritonBackend", "", "triton"),
}
"""Name -> module, class, suffix of its graph files, extra to install."""
AUTO = "auto"
"""Stands for the fastest one; see ``engine.models.autotune``."""
TRITON = "triton"
"""The one that runs graphs elsewhere, and reads no graph files."""
_REMOTE = ("stylewire.server.engine.backends.triton.server_pool", "TritonServers")


_MOST_INSTANCES = 4
"""On CPUs with many cores, a few batches of several threads each: more would make each of them slow."""
SMALL_BYTES, _LARGE_THREADS = 32 << 20, 4
"""The layers of a larger graph keep so many threads busy that batches side by side gain 2 to 4 %, for twice the memory:
each session has weights of its own."""
_SHARED_BYTES = 256 << 20
"""A larger graph is loaded once, for one batch at a time: a second session has weights of its own."""


def most_instances(path: Path, options: BackendOptions) -> int:
    """Return how many batches of a graph should run at once, given threads enough."""
    if options.instances:
        return options.instances
    byte_count = path.stat().st_size
    if options.device != "cpu" or byte_count > _SHARED_BYTES:
        return 1
    if byte_count > SMALL_BYTES:
        return min(_MOST_INSTANCES, max(1, options.threads // _LARGE_THREADS))
    return _MOST_INSTANCES


def graph_suffixes(backend: str) -> tuple[str, ...]:
    """Return the suffixes of files that a backend's graphs have; the first of which there are any counts.

    Triton has files of its own, which were made of one of these.
    """
    return {"torchscript": (".pt",), TRITON: (".onnx", ".pt")}.get(backend, (".onnx",))


def most_rows(backend: Backend, limit: int) -> int:
    """Return the rows of a batch at most: ``limit``, or fewer where a server elsewhere takes fewer."""
    return min(limit, getattr(backend, "max_batch_size", 0) or limit)


def graph_file(backend: str, graph: str, options: BackendOptions, files: Collection[str]) -> str | None:
    """Return the file that a backend runs, among those of a model directory; None if there is none for it.

    Triton has files of its own, so the graph stands for it.

    On a GPU, fast means the file in half precision; CPUs compute in float32 or bf16 with the file in float32.
    """
    suffix = _BACKENDS[backend][2]
    if not suffix:
        return graph
    half, plain = f"{graph}.fp16{suffix}", f"{graph}{suffix}"
    if options.precision == "fast" and options.device != "cpu" and half in files:
        return half
    return plain if plain in files else None


def graph_name(path: Path) -> str:
    """Return the graph of a file: ``synthesis.fp16.onnx`` -> ``synthesis``."""
    return path.name.partition(".")[0]


def open_backend(name: str, path: Path, options: BackendOptions) -> Backend:
    """Load one graph file.

    Raises:
        BackendUnavailableError: its package is not installed, or the device cannot be used.
    """
    module_name, class_name, _, _ = _BACKENDS[name]
    outputs = OUTPUTS[graph_kind(graph_name(path))]
    return cast("Backend", _load(name, module_name, class_name)(path, outputs, options))


def open_remote(options: RemoteOptions) -> Remote:
    """Open the connections that all graphs share which run elsewhere; on the event loop that is to have them.

    Raises:
        BackendUnavailableError: the package for that is not installed.
    """
    return cast("Remote", _load(TRITON, *_REMOTE)(options))


def _load(name: str, module_name: str, class_name: str) -> Callable[..., object]:
    try:
        module = importlib.import_module(module_name)
    except ImportError as err:
        raise BackendUnavailableError(
            f"backend {name!r} needs a package that is not installed ({err.name}): "
            f"pip install 'stylewire[{_BACKENDS[name][3]}]'"
        ) from err
    return cast("Callable[..., object]", getattr(module, class_name))
