"""What takes the place of a pickle's objects and names here, and the budget of work that a file may cause.

Placeholders hold data and run nothing of the file. Source of the limits: format notes 3, section 3.7.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stylewire_export.errors import CheckpointError

MAX_STEPS = 2_000_000  # 80 times the longest real pickle, shared with the pickles nested in it
MAX_TENSORS = 100_000
MAX_DEPTH = 200
MAX_OBJECTS = 1_000_000


class Placeholder:
    """An object of the file, reduced to its state.

    Args:
        state: None until BUILD sets it.
    """

    __slots__ = ("state",)

    def __init__(self, state: object = None) -> None:
        self.state = state

    def build(self, state: object) -> None:
        """Set the state, for the BUILD opcode; kinds that have one check it here.

        Raises:
            CheckpointError: this kind has no state, or another one.
        """
        raise CheckpointError(f"the pickle sets the state ({type(state).__name__}) of something that has none")


@dataclass(frozen=True, slots=True)
class SafeGlobal:
    """A name that a pickle may use: the functions of this package that run in its place.

    Attributes:
        call: for REDUCE, from the arguments as written in the file.
        create: for NEWOBJ without arguments.
    """

    call: Callable[[tuple[object, ...]], object] | None = None
    create: Callable[[], object] | None = None


@dataclass(slots=True)
class Budget:
    """Work that one file may cause, over all its pickles.

    Attributes:
        copied_bytes: how many bytes calls may copy; real files copy each of their bytes at most once.
        steps: how many opcodes may run, over all pickles of the file.
        tensors: how many tensors the file may declare.
    """

    copied_bytes: int
    steps: int = MAX_STEPS
    tensors: int = MAX_TENSORS

    def spend(self, steps: int) -> None:
        """Count opcodes, or items that a call goes through.

        Raises:
            CheckpointError: the budget is used up; the two methods below raise it likewise.
        """
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
    """Visit every object once, level by level, so that later recursion is bounded.

    Raises:
        CheckpointError: there are more than ``MAX_OBJECTS`` objects, or ``MAX_DEPTH`` levels.
    """
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
    return [value.state] if isinstance(value, Placeholder) else []
