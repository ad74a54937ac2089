"""One batch as a call of Triton: tensors in the message, or in shared memory where that is and pays."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput

from stylewire.server.engine.backends.triton.contract import Graph, datatype, row_bytes
from stylewire.server.engine.backends.triton.errors import CallError, Failure, unavailable
from stylewire.server.engine.backends.triton.shared_memory import Region
from stylewire.server.engine_api.graphs import Arrays

MIN_SHARED_BYTES = 32 << 10
"""Smaller tensors are in the message: two more copies of them cost less than their addresses."""
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Call:
    """A batch for Triton.

    Attributes:
        graph: that runs it.
        inputs: arrays [N, ...].
        outputs: names of those wanted.
        deadline: in seconds of ``time.monotonic``; None for no limit.
    """

    graph: Graph
    inputs: Arrays
    outputs: Sequence[str]
    deadline: float | None

    @property
    def row_count(self) -> int:
        """Number of rows, N."""
        return len(next(iter(self.inputs.values())))

    def seconds_left(self, patience_seconds: float) -> float:
        """Return how long a result is of use, and a server is waited for."""
        left = math.inf if self.deadline is None else self.deadline - time.monotonic()
        return min(left, patience_seconds)


class Result(NamedTuple):
    """The outputs of a batch.

    Attributes:
        arrays: by name; those in shared memory are good until ``release``.
        region: where they are; None if all have memory of their own.
        free: frees it, on the event loop.
    """

    arrays: Arrays
    region: Region | None = None
    free: Callable[[Region], None] = lambda _: None

    def copy(self) -> Arrays:
        """Return the outputs in memory of their own, so that the region can be released."""
        if self.region is None:
            return self.arrays
        return {name: array.copy() for name, array in self.arrays.items()}

    def release(self) -> None:
        """Free the region, on the event loop; nobody reads the arrays any more."""
        if self.region:
            self.free(self.region)


class Layout:
    """Where the tensors of a call are in a region.

    Args:
        call: all of it.
        columns: inputs float32[N] that travel as [N, 1].

    Attributes:
        byte_count: of the region; 0 if no tensor is large enough for it.
    """

    def __init__(self, call: Call, columns: frozenset[str] = frozenset()) -> None:
        self._call, self._columns, self.byte_count = call, columns, 0
        self._inputs = {name: self._place(array.nbytes) for name, array in call.inputs.items()}
        rows = call.row_count
        self._outputs = {name: self._place(rows * row_bytes(call.graph.outputs[name])) for name in call.outputs}

    def _place(self, byte_count: int) -> slice | None:
        if byte_count < MIN_SHARED_BYTES:
            return None
        start = self.byte_count
        self.byte_count = -(-(start + byte_count) // _ALIGNMENT) * _ALIGNMENT
        return slice(start, start + byte_count)

    def inputs(self, region: Region | None) -> list[Any]:
        """Write the inputs into the region or the message; return their ``InferInput``."""
        return [self._input(name, array, region) for name, array in self._call.inputs.items()]

    def outputs(self, region: Region | None) -> list[Any]:
        """Return the ``InferRequestedOutput`` of the outputs, with their places in the region."""
        wanted = []
        for name, place in self._outputs.items():
            output = InferRequestedOutput(name)
            if region and place:
                output.set_shared_memory(region.name, place.stop - place.start, place.start)
            wanted.append(output)
        return wanted

    def read(self, result: Any, region: Region | None) -> Arrays:
        """Read the outputs of an ``InferResult``.

        Raises:
            CallError: a shape or type is not that of the graph.
        """
        return {name: self._read(name, result, region) for name in self._call.outputs}

    def _input(self, name: str, array: NDArray[Any], region: Region | None) -> Any:
        if name in self._columns:
            array = array[:, None]
        tensor, place = InferInput(name, list(array.shape), datatype(array)), self._inputs[name]
        if region is None or place is None:
            return tensor.set_data_from_numpy(array)
        region.data[place].view(array.dtype).reshape(array.shape)[...] = array
        return tensor.set_shared_memory(region.name, array.nbytes, place.start)

    def _read(self, name: str, result: Any, region: Region | None) -> NDArray[Any]:
        expected, place = self._call.graph.outputs[name], self._outputs[name]
        shape = (self._call.row_count, *expected.shape[1:])
        found = result.get_output(name)
        if found is None or tuple(found.shape) != shape or found.datatype != datatype(expected):
            error = unavailable(
                f"Triton gave {name} of {self._call.graph.name} in another shape than its metadata says"
            )
            raise CallError(Failure(error))
        if region and place:
            return region.data[place].view(expected.dtype).reshape(shape)
        array: NDArray[Any] = np.asarray(result.as_numpy(name))
        return array
