"""The published form exported as it is: every batch size needs a file of its own, since N is the count of groups."""

import warnings
from pathlib import Path

import torch

from models.networks import Network
from models.official import official_graph
from stylewire_export.formats.onnx import OPSET


def naive_file(network: Network, batch: int) -> Path:
    """Export for one batch size, unless the file is there and newer than the checkpoint."""
    path = network.directory.with_name("naive") / network.directory.name / str(batch) / f"{network.graph}.onnx"
    if path.exists() and path.stat().st_mtime > network.checkpoint.stat().st_mtime:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = official_graph(network.checkpoint, network.graph)
    inputs = network.inputs(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's age, and what it cannot fold
        torch.onnx.export(
            graph.module,
            tuple(torch.from_numpy(inputs[name]) for name in graph.inputs),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
        )
    return path
