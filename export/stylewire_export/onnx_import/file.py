"""ONNX files from elsewhere: parsed, and refused where they need more than themselves.

An ONNX graph runs no code of the file, but it can name other files, operators of other libraries, and endless loops.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from stylewire_export.errors import CheckpointError, quote, quote_all

MAX_FILE_BYTES = 2**31 - 1  # of a protobuf message: larger models keep their weights in other files
MAX_NODES = 100_000
MIN_OPSET = 8  # the first with broadcasting in all operators that the import adds
_STANDARD_DOMAINS = ("", "ai.onnx")
_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
_LOOPS = {"Loop", "Scan", "SequenceMap"}


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX model that is complete in itself.

    Raises:
        CheckpointError: what is wrong with the file, as one sentence.
    """
    if not path.is_file():
        raise CheckpointError("no such file, or not a regular one")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise CheckpointError(f"the file has {path.stat().st_size} bytes (limit {MAX_FILE_BYTES})")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
        _check_model(model)
        onnx.checker.check_model(model)
    except (DecodeError, UnicodeDecodeError) as err:
        raise CheckpointError("not an ONNX model, or a damaged one") from err
    except onnx.checker.ValidationError as err:
        raise CheckpointError(f"not a valid ONNX model: {quote(str(err).splitlines()[0])}") from err
    return model


def free_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """List the inputs of a graph that are no weights: old files list their weights as inputs too."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def graphs_in(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and those inside its operators; protobuf bounds the depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from graphs_in(inner)


def _check_model(model: onnx.ModelProto) -> None:
    if not model.graph.node:
        raise CheckpointError("not an ONNX model: it has no operators")
    if model.functions:
        raise CheckpointError(
            "it defines operators of its own: inline them first (onnx.inliner.inline_local_functions)"
        )
    opset = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD_DOMAINS), 0)
    if opset < MIN_OPSET:
        raise CheckpointError(f"operator set {opset} is too old (supported from {MIN_OPSET} on): export it again")
    graphs = list(graphs_in(model.graph))
    nodes = [node for graph in graphs for node in graph.node]
    if len(nodes) > MAX_NODES:
        raise CheckpointError(f"it has {len(nodes)} operators (limit {MAX_NODES})")
    _check_operators(nodes)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for graph in graphs for tensor in _tensors(graph)):
        raise CheckpointError("its weights lie in other files: save it as one file first (onnx.save does)")


def _check_operators(nodes: list[onnx.NodeProto]) -> None:
    foreign = {f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in _STANDARD_DOMAINS}
    if foreign:
        raise CheckpointError(f"operators of other libraries are not supported: {quote_all(sorted(foreign), limit=60)}")
    used = {node.op_type for node in nodes}
    if random := sorted(used & _RANDOM):
        raise CheckpointError(
            f"it draws random numbers itself ({quote_all(random, limit=60)}), so that no image could be drawn again: "
            f"make them an input or a constant"
        )
    if loops := sorted(used & _LOOPS):
        raise CheckpointError(f"loops are not supported: {quote_all(loops, limit=60)}")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    sparse = list(graph.sparse_initializer)
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)
