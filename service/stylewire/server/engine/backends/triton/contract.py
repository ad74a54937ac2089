"""Inputs and outputs of a model at Triton, compared with the graph that it should be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends.triton.errors import HINT
from stylewire.server.engine_api.graphs import Arrays

_NUMBER = (1,)
"""Triton demands a side behind the batch axis: float32[N] travels as [N, 1] to a model that batches."""
_DATATYPES = {"float32": "FP32", "uint8": "UINT8"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graph:
    """A graph that Triton should have; two contents of a model have graphs of the same name.

    Attributes:
        name: of the model at Triton: ``<model>.<graph>``.
        version: of the model here; requests name Triton's of the same number, if it has that.
        inputs: stored inputs of the self-check, by name.
        outputs: what belongs to them.
        parity: whether the outputs have to be as exact as in float32.
    """

    name: str
    version: str
    inputs: Arrays
    outputs: Arrays
    parity: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """How one server runs a graph.

    Attributes:
        version: that requests name; empty for the server's own choice.
        max_batch_size: rows that it takes at once; 0 for any number.
        instance_count: batches that it runs at once.
        columns: inputs of a number a row that travel as [N, 1].
    """

    version: str
    max_batch_size: int
    instance_count: int
    columns: frozenset[str] = frozenset()


def compare_contract(graph: Graph, metadata: Any, config: Any) -> Contract:
    """Return how a server runs a graph, after comparing its model with the graph.

    Args:
        graph: what is expected.
        metadata: ``ModelMetadataResponse``.
        config: ``ModelConfig``.

    Raises:
        BackendUnavailableError: a name, a type or a shape is another; all of them are named.
    """
    wrong = [
        *_differences("input", graph.inputs, metadata.inputs, batched=config.max_batch_size > 0),
        *_differences("output", graph.outputs, metadata.outputs, batched=config.max_batch_size > 0),
    ]
    optional = {each.name for each in config.input if each.optional}
    wrong += [
        f"it wants an input {each.name}"
        for each in metadata.inputs
        if each.name not in graph.inputs and each.name not in optional
    ]
    if wrong:
        raise BackendUnavailableError(f"{graph.name} at Triton is another graph: {'; '.join(wrong)}; {HINT}")
    return Contract(
        version=graph.version if graph.version in metadata.versions else "",
        max_batch_size=config.max_batch_size,
        columns=frozenset(
            each.name for each in metadata.inputs if graph.inputs[each.name].ndim == 1 and list(each.shape) != [-1]
        ),
        instance_count=sum(max(1, each.count) * max(1, len(each.gpus)) for each in config.instance_group) or 1,
    )


def row_bytes(array: NDArray[Any]) -> int:
    """Return the bytes of one row of [N, ...]."""
    return math.prod(array.shape[1:]) * array.itemsize


def datatype(array: NDArray[Any]) -> str:
    """Return Triton's name for the type of an array, float32 or uint8."""
    return _DATATYPES[np.dtype(array.dtype).name]


def _differences(kind: str, expected: Arrays, found: Sequence[Any], *, batched: bool) -> list[str]:
    known, wrong = {each.name: each for each in found}, []
    for name, array in expected.items():
        tensor = known.get(name)
        if tensor is None:
            wrong.append(f"it has no {kind} {name}")
        elif tensor.datatype != datatype(array):
            wrong.append(f"{kind} {name} is {tensor.datatype}, not {datatype(array)}")
        elif not _fits(list(tensor.shape), array.shape[1:], batched=batched):
            wrong.append(f"{kind} {name} has the shape {list(tensor.shape)}, not {['N', *array.shape[1:]]}")
    return wrong


def _fits(shape: list[int], row: tuple[int, ...], *, batched: bool) -> bool:
    """Return whether a shape, of which -1 is any size, takes rows; a server that batches may omit the batch axis."""
    sides = row or _NUMBER
    if len(shape) == len(sides) + 1:
        batched, shape = shape[0] == -1, shape[1:]
    elif shape == [-1] and not row:
        return True
    return batched and len(shape) == len(sides) and all(b in (-1, a) for a, b in zip(sides, shape, strict=True))
