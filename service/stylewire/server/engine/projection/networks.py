"""Networks of a model directory as PyTorch functions that gradients go through."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import onnx
import torch
from torch import Tensor

from stylewire.errors import UnsupportedError
from stylewire.server.engine.backends import INPUTS, OUTPUTS
from stylewire.server.engine.backends.torchscript import load_module
from stylewire.server.engine.projection.operators import OPERATORS


class Network(Protocol):
    """A network with one output.

    Attributes:
        input_names: what it takes.
    """

    input_names: tuple[str, ...]

    def run(self, inputs: dict[str, Tensor]) -> Tensor:
        """Compute the output; axis 0 of inputs and output is N."""
        ...


def read_network(directory: Path, graph: str, files: Iterable[str], output: str, device: torch.device) -> Network:
    """Load a graph, from TorchScript where there is such a file, else from ONNX.

    Args:
        directory: of the model.
        graph: such as ``synthesis``.
        files: that the directory has.
        output: the one that is wanted.
        device: where it is to run.

    Raises:
        UnsupportedError: there is neither, or the ONNX file has an operator without a counterpart here.
    """
    if f"{graph}.pt" in files:
        return TorchScriptNetwork(directory / f"{graph}.pt", graph, output, device)
    if f"{graph}.onnx" in files:
        return OnnxNetwork(directory / f"{graph}.onnx", output, device)
    raise UnsupportedError(
        f"{directory.name} has no {graph} in float32; stylewire-export --formats torchscript makes it"
    )


class TorchScriptNetwork:
    """A traced module.

    Args:
        path: of the file.
        graph: what it is, such as ``synthesis``.
        output: the one that is wanted.
        device: where it is to run.
    """

    def __init__(self, path: Path, graph: str, output: str, device: torch.device) -> None:
        self._module = load_module(path, device)
        taken = len(list(self._module.graph.inputs())) - 1  # the first is the module itself
        self.input_names = INPUTS[graph][:taken]
        self._index = OUTPUTS[graph].index(output)

    def run(self, inputs: dict[str, Tensor]) -> Tensor:
        """Compute the output; axis 0 of inputs and output is N."""
        results = self._module(*(inputs[name] for name in self.input_names))
        result: Tensor = results[self._index] if isinstance(results, tuple) else results
        return result


class _Node(NamedTuple):
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class OnnxNetwork:
    """An ONNX file, node by node: the same arithmetic as any runtime's, and autograd records it.

    Args:
        path: of the file.
        output: the one that is wanted; what only others need is left out.
        device: where it is to run.
    """

    def __init__(self, path: Path, output: str, device: torch.device) -> None:
        graph = onnx.load(path).graph
        self._output = output
        self._constants = {each.name: _tensor(each, device) for each in graph.initializer}
        self.input_names = tuple(each.name for each in graph.input if each.name not in self._constants)
        self._nodes = self._fold(_needed([_node(each) for each in graph.node], output), device)
        self._last_uses = _last_uses(self._nodes, output)

    def run(self, inputs: dict[str, Tensor]) -> Tensor:
        """Compute the output; what autograd does not need is freed as soon as nothing else needs it."""
        values = {name: inputs[name] for name in self.input_names}
        for node, done in zip(self._nodes, self._last_uses, strict=True):
            values.update(
                zip(node.outputs, _apply(node, [self._find(name, values) for name in node.inputs]), strict=False)
            )
            for name in done:
                values.pop(name, None)
        return values[self._output]

    def _find(self, name: str, values: dict[str, Tensor]) -> Tensor | None:
        if not name:  # an input that is left out
            return None
        return values[name] if name in values else self._constants[name]

    def _fold(self, nodes: list[_Node], device: torch.device) -> list[_Node]:
        """Compute once what depends on constants only; return the other nodes."""
        left = []
        for node in nodes:
            if node.kind == "Constant":
                self._constants[node.outputs[0]] = _tensor(node.attributes["value"], device)
            elif all(not name or name in self._constants for name in node.inputs):
                found = _apply(node, [self._constants.get(name) for name in node.inputs])
                self._constants.update(zip(node.outputs, found, strict=False))
            else:
                left.append(node)
        used = {name for node in left for name in node.inputs}
        self._constants = {name: value for name, value in self._constants.items() if name in used}
        return left


def _apply(node: _Node, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    result = OPERATORS[node.kind](node.attributes, *inputs)
    return result if isinstance(result, tuple) else (result,)


def _node(found: Any) -> _Node:
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in found.attribute}
    return _Node(found.op_type, tuple(found.input), tuple(found.output), attributes)


def _needed(nodes: list[_Node], output: str) -> list[_Node]:
    """Return the nodes that the output depends on, in order.

    Raises:
        UnsupportedError: one of them has no counterpart here.
    """
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            if node.kind not in {*OPERATORS, "Constant"}:
                raise UnsupportedError(
                    f"the graph has the operator {node.kind}, which has no gradient here; "
                    "stylewire-export --formats torchscript makes a file that has"
                )
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _last_uses(nodes: list[_Node], output: str) -> list[list[str]]:
    """Return for every node the values that no later one reads."""
    seen, found = {output}, []
    for node in reversed(nodes):
        last = {*node.inputs, *node.outputs} - seen
        seen |= last
        found.append(list(last))
    return found[::-1]


def _tensor(message: Any, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(onnx.numpy_helper.to_array(message).copy())
    return tensor.to(device) if tensor.is_floating_point() else tensor  # shapes and axes are read by the processor
