"""Graphs as TorchScript files, which ``torch.jit.load`` reads without our code."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from stylewire_export.graphs import Graph


@contextmanager
def torchscript_allowed() -> Iterator[None]:
    """Silence PyTorch's deprecation of TorchScript: files of torch.export need the PyTorch that wrote them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        yield


def trace(module: nn.Module, inputs: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    """Trace a module on example inputs, in evaluation mode."""
    with torchscript_allowed():
        traced: torch.jit.ScriptModule = torch.jit.trace(module.eval(), inputs, check_trace=False)  # type: ignore[no-untyped-call]  # torch's
    return traced


def write_torchscript(graph: Graph, path: Path, batch_size: int = 2) -> None:
    """Trace and freeze a graph and write it as one TorchScript file; inputs are positional.

    Args:
        graph: to write.
        path: of the file.
        batch_size: N of the example that is traced; the file takes any.
    """
    example = graph.examples(batch_size)
    traced = trace(graph.module, tuple(torch.from_numpy(example[name]) for name in graph.inputs))
    with torchscript_allowed():
        torch.jit.freeze(traced.eval()).save(str(path))
