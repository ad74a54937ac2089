"""What a pickle can meet here: records, stand-ins for names, and the budget that it works on.

Everything is ours and inert. The limits and their reasons are in section 3.7 of the format notes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stylewire_export.errors import CheckpointError

MAX_STEPS = 2_000_000  # 80 times the longest real pickle, shared with the pickles nested in it
MAX_TENSORS = 100_000
MAX_DEPTH = 200
MAX_OBJECTS = 1_000_000


class Record:
    """An object of the file, reduced to its state."""

    __slots__ = ("state",)

    def __init__(self, state: object = None) -> None:
        self.state = state

    def build(self, state: object) -> None:
        """Take the state that the BUILD opcode brings; kinds that expect one check it here."""
        raise CheckpointError(f"the pickle sets the state ({type(state).__name__}) of something that has none")


@dataclass(frozen=True, slots=True)
class StandIn:
    """What an allowed name stands for: our own functions, never the file's.

    Attributes:
        call: for REDUCE, takes the arguments as written in the file.
        create: for NEWOBJ without arguments.
    """

    call: Callable[[tuple[object, ...]], object] | None = None
    create: Callable[[], object] | None = None


class NameTable(Protocol):
    """The names that a pickle may use."""

    def find(self, module: str, name: str) -> object:
        """Give the stand-in; raise CheckpointError for any other name."""


@dataclass(slots=True)
class Budget:
    """Work that one file may cause, over all its pickles.

    Attributes:
        copied_bytes: what calls may copy; honest files copy each of their bytes once at most.
    """

    copied_bytes: int
    steps: int = MAX_STEPS
    tensors: int = MAX_TENSORS

    def spend(self, steps: int) -> None:
        """Count work; stop when there has been too much."""
        self.steps -= steps
        if self.steps < 0:
            raise CheckpointError(f"the pickle takes more than {MAX_STEPS} steps; no real checkpoint does")

    def spend_bytes(self, count: int) -> None:
        """Count bytes that are about to be copied."""
        self.copied_bytes -= count
        if self.copied_bytes < 0:
            raise CheckpointError("the pickle makes more bytes than the file has; no real checkpoint does")

    def spend_tensor(self) -> None:
        """Count one tensor."""
        self.tensors -= 1
        if self.tensors < 0:
            raise CheckpointError(f"the file declares more than {MAX_TENSORS} tensors")


def check_depth(root: object) -> None:
    """Visit every object once, level by level, so that no later walk meets a surprise."""
    level, seen = [root], {id(root)}
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent) if id(child) not in seen]
        level = list({id(child): child for child in level}.values())
        seen.update(id(child) for child in level)
        if len(seen) > MAX_OBJECTS:
            raise CheckpointError(f"the file holds more than {MAX_OBJECTS} objects")
        if not level:
            return
    raise CheckpointError(f"the pickle nests deeper than {MAX_DEPTH}")


def _children(value: object) -> list[object]:
    if type(value) is dict:
        return list(value.values())
    if type(value) is list or type(value) is tuple:
        return list(value)
    return [value.state] if isinstance(value, Record) else []
