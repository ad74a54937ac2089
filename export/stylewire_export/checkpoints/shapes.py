"""Shapes of the tensors in a file: looked up, counted, and compared as a whole with those of a network."""

from collections.abc import Mapping

from stylewire_export.errors import CheckpointError, quote, quote_all

Shape = tuple[int, ...]

MAX_RESOLUTION_PX = 4096
COUNTER = "num_batches_tracked"  # torch counts the training steps of a batch norm in it; inference ignores it


class Shapes:
    """Shapes of the tensors of a file; a missing one is an error that names it."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def size(self, name: str, axis: int) -> int:
        """Return one dimension, at least 1.

        Raises:
            CheckpointError: the tensor is missing, or has no such axis.
        """
        shape = self._shapes.get(name)
        if shape is None:
            raise CheckpointError(f"tensor {quote(name)} is missing: the network is incomplete or of an unknown kind")
        if axis >= len(shape) or shape[axis] < 1:
            raise CheckpointError(f"tensor {quote(name)} has the impossible shape {list(shape)}")
        return shape[axis]

    def count(self, pattern: str, *, first: int = 0, step: int = 1) -> int:
        """Count the names of a numbered series, by default 0, 1, 2 ...; ``pattern`` has one ``{}``."""
        numbers = enumerate(range(first, first + step * (len(self._shapes) + 1), step))
        return next(index for index, number in numbers if pattern.format(number) not in self._shapes)


def linear_shapes(name: str, in_size: int, out_size: int) -> dict[str, Shape]:
    """List weight and bias of a linear layer with their shapes."""
    return {f"{name}.weight": (out_size, in_size), f"{name}.bias": (out_size,)}


def norm_shapes(name: str, channels: int) -> dict[str, Shape]:
    """List the tensors of a batch norm with their shapes, without its counter."""
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def compare_shapes(found: Mapping[str, Shape], expected: Mapping[str, Shape], optional: tuple[str, ...] = ()) -> None:
    """Refuse missing tensors, surplus tensors and wrong shapes, by name.

    Raises:
        CheckpointError: names the first of them.
    """
    if missing := [name for name in expected if name not in found and name not in optional]:
        raise CheckpointError(f"tensors are missing ({len(missing)}): {quote_all(missing)}")
    if surplus := [name for name in found if name not in expected]:
        raise CheckpointError(f"tensors do not belong to this network ({len(surplus)}): {quote_all(surplus)}")
    for name, shape in found.items():
        if shape != expected[name]:
            raise CheckpointError(
                f"tensor {quote(name)} has shape {list(shape)} where {list(expected[name])} is expected"
            )
