"""Graphs as ncnn files, run by ncnn on the CPU in float32: Winograd convolutions, for processors without matrix units.

ncnn checks nothing: a damaged net, or a row of another shape, ends the process. Hence all the checks.
"""

import os
import queue
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends import INPUTS, BackendOptions, graph_name
from stylewire.server.engine_api.graphs import Arrays, graph_kind

# How long a thread of ncnn spins while it waits for the others; OpenMP reads it when ncnn is loaded, and not again. Its
# own 3 ms gain at most 10 % on idle cores, and cost two to seven times the time where anything else wants to run.
_spin = os.environ.get("GOMP_SPINCOUNT")
os.environ["GOMP_SPINCOUNT"] = _spin or "100"
import ncnn  # noqa: E402 - after the line above

if _spin is None:
    del os.environ["GOMP_SPINCOUNT"]  # PyTorch has an OpenMP of its own

_Shape: TypeAlias = tuple[int, ...]

_OFF = (
    "use_vulkan_compute",
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
)
"""Options without which everything is computed on the CPU in float32."""
SMALL_BYTES = 16 << 20
"""Layers of a net with fewer weights are too short to be shared by threads: at 64 px that triples the work."""
_LARGE_INSTANCES = 2
"""Runs of a larger net at once, each with all threads: one computes while the other waits for its slowest thread."""
_INPUT = re.compile(r"^Input +\S+ +0 +1 +(\S+)((?: +\d+=\d+)+) *$", re.MULTILINE)
"""An input whose sizes are in the file."""
_SIZES = ("2", "11", "1", "0")
"""The keys of these sizes, outermost axis first: channels, depth, height, width."""


class NcnnBackend:
    """A graph in ncnn.

    One net serves all instances, which share its weights. A small net runs on one thread in each, a larger one on all.
    The rows of a batch run one after the other, in the same memory: ncnn has no batch axis.

    Attributes:
        net: the loaded net.
        pools: memory of runs, for each instance that is idle.
        threads: that a run computes with.
    """

    name = "ncnn"
    device = "cpu"
    precision = "fp32"
    exclusive = False  # an instance has all threads already, or no use for them

    def __init__(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> None:
        if options.device != "cpu":
            raise BackendUnavailableError(f"ncnn runs on the CPU here, not on {options.device!r}: choose --device cpu")
        self._path, weights = path, path.with_suffix(".bin")
        if not weights.exists():
            raise _damaged(weights, "is missing")
        small = weights.stat().st_size < SMALL_BYTES
        self.instances = min(options.instances or (options.threads if small else _LARGE_INSTANCES), options.threads)
        self.threads = 1 if small else options.threads
        self.net = _load(path, weights, self.threads)
        self._blobs = {name: f"out{index}" for index, name in enumerate(outputs)}
        self.input_names = self._check_names()
        self._shapes = _read_shapes(path)
        self.pools = queue.LifoQueue[_Pools]()  # last in, first out: its memory is there, and in the caches
        for _ in range(self.instances):
            self.pools.put(_Pools(ncnn.PoolAllocator(), ncnn.PoolAllocator()))

    def run(self, inputs: Arrays, outputs: Sequence[str], *, exclusive: bool = False) -> Arrays:  # noqa: ARG002
        """Run one batch; only the outputs asked for are computed and copied.

        Raises:
            ValueError: rows have another shape than the graph takes.
            RuntimeError: ncnn failed.
        """
        free = self.pools
        given = [self._check_rows(f"in{index}", inputs[name]) for index, name in enumerate(self.input_names)]
        pools = free.get()
        try:
            found = [self._run_row(pools, row, outputs) for row in zip(*given, strict=True)]
        finally:
            free.put(pools)
        return {name: np.stack(arrays) for name, arrays in zip(outputs, zip(*found, strict=True), strict=True)}

    def close(self) -> None:
        """Free the net and the memory of its runs."""
        del self.net, self.pools

    def _run_row(self, pools: "_Pools", row: Sequence[NDArray[np.float32]], outputs: Sequence[str]) -> list[np.ndarray]:
        extractor = self.net.create_extractor()
        extractor.set_blob_allocator(pools.blobs)
        extractor.set_workspace_allocator(pools.workspace)
        for index, array in enumerate(row):
            # A copy: a layer that works in place may not, or crashes, in memory that is not ncnn's.
            extractor.input(f"in{index}", ncnn.Mat(array).clone())
        found = list[np.ndarray]()
        for name in outputs:
            code, mat = extractor.extract(self._blobs[name])
            if code != 0:
                raise RuntimeError(f"ncnn failed at {name} of {self._path.name} with code {code}")
            # Copies too, since the memory goes back to the pool. The integer parts of pixels are the bytes.
            found.append(np.array(mat, np.uint8 if name == "pixels" else np.float32))
        return found

    def _check_rows(self, blob: str, array: np.ndarray) -> NDArray[np.float32]:
        """Return float32[N, ...], contiguous; where a row is a number, [N, 1].

        Raises:
            ValueError: the shape of rows is not that of the file.
        """
        rows = np.ascontiguousarray(array, np.float32).reshape(len(array), *(array.shape[1:] or (1,)))
        expected = self._shapes.get(blob, rows.shape[1:])
        if rows.shape[1:] != expected or 0 in expected:
            raise ValueError(f"{self._path.name} takes rows of shape {expected} as {blob}, not {rows.shape[1:]}")
        return rows

    def _check_names(self) -> tuple[str, ...]:
        """Compare the names in the file with those of the graph, and return the graph's names of the inputs."""
        taken = self.net.input_names()
        names = INPUTS[graph_kind(graph_name(self._path))][: len(taken)]
        for found, expected in (
            (taken, {f"in{index}" for index in range(len(names))}),
            (self.net.output_names(), set(self._blobs.values())),
        ):
            if set(found) != expected:
                raise _damaged(self._path, f"has {sorted(found)}, expected {sorted(expected)}")
        return names


class _Pools(NamedTuple):
    """Memory that a run leaves to the next one, which spares the system clearing large blocks for every layer."""

    blobs: ncnn.PoolAllocator
    workspace: ncnn.PoolAllocator


def _load(path: Path, weights: Path, threads: int) -> ncnn.Net:
    """Load a net; one that failed to load must not be used.

    Raises:
        BackendUnavailableError: a file is damaged, or the options were not taken.
    """
    net = ncnn.Net()
    net.opt.num_threads = threads  # cannot be changed later
    for option in _OFF:
        setattr(net.opt, option, False)
    for file, load in ((path, net.load_param), (weights, net.load_model)):
        if load(str(file)) != 0:
            raise _damaged(file, "cannot be read")
    left_on = [option for option in _OFF if getattr(net.opt, option)]
    if left_on or net.opt.num_threads != threads:
        raise BackendUnavailableError(f"ncnn did not take its options: {net.opt.num_threads} threads, {left_on}")
    return net


def _damaged(file: Path, problem: str) -> BackendUnavailableError:
    return BackendUnavailableError(f"{file.name} {problem}: export the model anew")


def _read_shapes(path: Path) -> dict[str, _Shape]:
    """Find the shapes of inputs, without N, where the export wrote them: ``Input in0 0 1 in0 0=512 1=14``."""
    shapes = {}
    for name, sizes in _INPUT.findall(path.read_text(encoding="utf-8")):
        size_of = dict(size.split("=") for size in sizes.split())
        shapes[name] = tuple(int(size_of[key]) for key in _SIZES if key in size_of)
    return shapes
