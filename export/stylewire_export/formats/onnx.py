"""Graphs as ONNX files, opset 17, with a dynamic batch axis.

The TorchScript-based exporter is used, not the newer one (``dynamo=True``). Compared on PyTorch 2.13 with the demo
models: the newer writes files 2 to 4 % larger that run at the same speed, takes 10 to 20 times as long, starts at opset
18, needs onnxscript, and its optimizer removes the + 1e-8 of the demodulation.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from stylewire_export.graphs import Graph

OPSET = 17  # every runtime of the service reads it; newer ones add nothing that these graphs use
MIN_HALVED_SIZE = 1024  # values; below, a cast costs more than it saves


def write_onnx(graph: Graph, path: Path) -> None:
    """Trace a graph, fold its constants and write it as one ONNX file."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        traced, folded = Path(scratch) / "traced.onnx", Path(scratch) / "folded.onnx"
        _trace(graph, traced)
        _fold_constants(traced, folded)
        model = onnx.load(folded)
    _halve_weights(model)
    _save(model, path)


def write_half_onnx(graph: Graph, path: Path) -> None:
    """Trace a graph that computes in half precision.

    Its constants are folded already, by ``half_form``: onnxruntime would add casts around everything that it cannot
    run in half precision on a CPU.
    """
    _trace(graph, path)
    _save(onnx.load(path), path)


def _save(model: onnx.ModelProto, path: Path) -> None:
    # onnxruntime lists every operator set that it knows; the graph uses the standard one only.
    del model.opset_import[:]
    model.opset_import.extend([onnx.helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _trace(graph: Graph, path: Path) -> None:
    example = graph.examples(2)
    axes = {name: {0: "N"} for name in (*graph.inputs, *graph.outputs)}
    if "noise" in axes:
        axes["noise"][1] = "noise_size"
    with warnings.catch_warnings():
        # PyTorch warns at every call that this exporter is the older of two; the reason to use it is above.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export", DeprecationWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.")
        # What the exporter leaves unfolded, the next step folds.
        warnings.filterwarnings("ignore", "Constant folding - Only steps=1 can be constant folded", UserWarning)
        torch.onnx.export(
            graph.module,
            tuple(torch.from_numpy(example[name]) for name in graph.inputs),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=axes,
        )


def _fold_constants(source: Path, target: Path) -> None:
    """Compute once what depends on weights only, such as the sums of the demodulation.

    Level "basic" rewrites within the standard operators; higher levels would write for this machine's processor.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _halve_weights(model: onnx.ModelProto) -> None:
    """Store weights that half precision holds exactly in half the bytes; the graph still computes in float32.

    Every runtime folds the cast when it loads the graph. Weights trained in float32 are left as they are.
    """
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < MIN_HALVED_SIZE:
            continue
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if np.array_equal(halves.astype(np.float32), values):
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(halves, f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
