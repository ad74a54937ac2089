"""Graphs as TorchScript files, which ``torch.jit.load`` reads without our code."""

import warnings
from pathlib import Path

import torch

from stylewire_export.graphs import Graph


def write_torchscript(graph: Graph, path: Path, batch_size: int = 2) -> None:
    """Trace and freeze a graph and write it as one TorchScript file; inputs are positional.

    Args:
        graph: to write.
        path: of the file.
        batch_size: N of the example that is traced; the file takes any.
    """
    example = graph.examples(batch_size)
    with warnings.catch_warnings():
        # PyTorch 2.9 deprecates TorchScript in favor of torch.export, whose files need the PyTorch that wrote them.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        inputs = tuple(torch.from_numpy(example[name]) for name in graph.inputs)
        traced = torch.jit.trace(graph.module, inputs, check_trace=False)  # type: ignore[no-untyped-call]  # torch's
        torch.jit.freeze(traced.eval()).save(str(path))
