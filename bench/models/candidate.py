"""One way to run a network. Imports no runtime: the process that measures memory loads just the one that it needs."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends import BackendOptions, open_backend
from stylewire.server.engine_api.graphs import Arrays

OFFICIAL = "official"
PACKAGES = {
    OFFICIAL: "models.official",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "ncnn": "ncnn",
    "torchscript": "torch",
}
"""Backend -> the package whose import loads the runtime."""


class Runnable(Protocol):
    """The part of a backend that is measured."""

    precision: str

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """Run one batch."""
        ...

    def close(self) -> None:
        """Free the graph."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A backend on one graph file.

    Attributes:
        name: in the table.
        backend: of the server, or ``official``.
        path: the graph file; for ``official`` the checkpoint.
        graph: ``synthesis``, ``mapping`` or ``encoder``.
        precision: fp32, fp16 or bf16.
        batch: the only batch size that the file takes; 0 if it takes any.
        timed: takes part in the rounds; the others are there to see how close they stay.
    """

    name: str
    backend: str
    path: Path
    graph: str
    precision: str = "fp32"
    batch: int = 0
    timed: bool = True

    @property
    def label(self) -> str:
        """Name it where it is alone."""
        return ", ".join([self.name, self.precision, *([f"batch {self.batch}"] if self.batch else [])])

    def takes(self, batch: int) -> bool:
        """Tell whether a batch of this size can run."""
        return self.batch in (0, batch)

    def open(self, threads: int) -> Runnable:
        """Load the graph.

        Raises:
            BackendUnavailableError: the runtime or the file is missing, or the precision cannot be had here.
        """
        if not self.path.exists():
            raise BackendUnavailableError(f"{self.path.parent.name} has no {self.path.name}")
        if self.backend == OFFICIAL:
            official: Runnable = importlib.import_module("models.official").Official(self.path, self.graph, threads)
            return official
        options = BackendOptions(
            threads=threads, instances=1, precision="fast" if self.precision == "bf16" else "parity"
        )
        backend = open_backend(self.backend, self.path, options)
        if self.precision == "bf16" != backend.precision:
            backend.close()
            raise BackendUnavailableError(f"it runs {self.graph} in {backend.precision} here, also with precision fast")
        return backend
