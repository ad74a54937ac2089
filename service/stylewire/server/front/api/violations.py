"""Violations of a request: collected while it is parsed, raised all at once."""

import math
from collections.abc import Mapping
from typing import TypeVar

from stylewire import pb, tensors
from stylewire.errors import InvalidFieldError, StylewireError, Violation
from stylewire.latents import Array
from stylewire.tensors import TensorError

T = TypeVar("T")


class Violations:
    """Wrong fields, and the first reason why a request that is right cannot be served."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []
        self._refusal: StylewireError | None = None

    def finish(self) -> None:
        """Raise wrong fields first, then what a model cannot do.

        Raises:
            InvalidFieldError: with every violation.
            UnsupportedError: a model lacks what the request needs.
            ModelNotReadyError: a model is not loaded.
        """
        if self._violations:
            raise InvalidFieldError.of(self._violations)
        if self._refusal:
            raise self._refusal

    @property
    def sound(self) -> bool:
        """Whether nothing was found yet: what costs much may be left out where the request is refused anyway."""
        return not self._violations and self._refusal is None

    def wrong(self, path: str, description: str) -> None:
        """Add a wrong field."""
        self._violations.append(Violation(path, description))

    def refuse(self, err: StylewireError) -> None:
        """Add what no change of a field can mend; the first one counts."""
        self._refusal = self._refusal or err

    def enum(self, path: str, value: int, table: Mapping[int, T], fallback: T) -> T:
        """Parse an enum; proto3 lets unknown numbers through."""
        if value not in table:
            self.wrong(path, f"{value} is no value of this enum; update the client or the server")
        return table.get(value, fallback)

    def tensor(self, path: str, message: pb.Tensor, shape: tuple[int, ...]) -> Array | None:
        """Parse a float32 array of a known shape; None when it is wrong."""
        try:
            return tensors.to_float_array(message, shape)
        except TensorError as err:
            self.wrong(path, str(err))
            return None

    def number(self, path: str, value: float, low: float, high: float) -> float:
        """Parse a number of a closed range."""
        if not (math.isfinite(value) and low <= value <= high):
            self.wrong(path, f"is {value:g}; expected {low:g} to {high:g}")
        return value
