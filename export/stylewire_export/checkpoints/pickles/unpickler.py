"""An interpreter for the part of the pickle language that checkpoints use, which builds plain values only.

There is no ``pickle.load`` and no ``torch.load`` in this package. A pickle is a program; here it runs on a machine
whose only names are the entries of a small table (:mod:`.safe_globals`), whose calls are functions of this package,
and whose every step is counted. ``torch.load(weights_only=True)`` is not enough: it cannot read NVIDIA's files, accepts
tensors of 10^13 elements with zero strides, and its list of names changes between releases. Source of the opcodes:
Python's ``pickletools``; of the limits: format notes 3, section 3.7.
"""

import struct
from collections.abc import Callable, Mapping

from stylewire_export.checkpoints.pickles.placeholders import MAX_DEPTH, Budget, Placeholder, SafeGlobal, check_depth
from stylewire_export.checkpoints.pickles.safe_globals import SafeGlobals
from stylewire_export.errors import CheckpointError, quote

MAX_MEMO = 500_000
MAX_TEXT_BYTES = 16 * 2**20
MAX_INTEGER_BYTES = 64
MAX_NAME_BYTES = 1000

PersistentLoad = Callable[[object], object]


def read_pickle(
    content: memoryview, *, safe_globals: SafeGlobals, budget: Budget, persistent_load: PersistentLoad | None = None
) -> tuple[object, int]:
    """Run one pickle.

    Args:
        content: bytes that start with the pickle; more may follow.
        safe_globals: the only names that it may use.
        budget: shared with every other pickle of the file.
        persistent_load: resolves storages that lie outside of the pickle.

    Returns:
        The object and the number of bytes read.

    Raises:
        CheckpointError: for anything that is not a complete, plain checkpoint pickle.
    """
    machine = _Machine(content, safe_globals, budget, persistent_load)
    root = machine.run()
    check_depth(root)
    return root, machine.position


class _Machine:
    """Stack, marks and memo of the pickle language."""

    def __init__(
        self, content: memoryview, safe_globals: SafeGlobals, budget: Budget, persistent_load: PersistentLoad | None
    ) -> None:
        self.content, self.budget = content, budget
        self.safe_globals, self.persistent_load = safe_globals, persistent_load
        self.position = 0
        self.stack: list[object] = []
        self.outer: list[list[object]] = []  # the stacks below each MARK
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        """Execute up to STOP and return the one object on the stack."""
        while (code := self.unsigned(1)) != _STOP:
            self.budget.spend(1)
            operation = _OPERATIONS.get(code)
            if operation is None:
                self.refuse_operation(code)
            else:
                operation(self)
        if self.outer or len(self.stack) != 1:
            raise CheckpointError("the pickle does not end with one object: the file is damaged")
        return self.stack[0]

    # Bytes

    def take(self, size: int) -> memoryview:
        start, end = self.position, self.position + size
        if end > len(self.content):
            raise CheckpointError("the pickle ends too early: the file is incomplete, or it lies about a length")
        self.position = end
        return self.content[start:end]

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self, size: int) -> str:
        if size > MAX_TEXT_BYTES:
            raise CheckpointError(f"a string of {size} bytes is longer than {MAX_TEXT_BYTES}")
        try:
            return str(self.take(size), "utf-8")
        except UnicodeDecodeError as err:
            raise CheckpointError("a string is not UTF-8: the file is damaged") from err

    def line(self) -> str:
        rest = bytes(self.content[self.position : self.position + MAX_NAME_BYTES])
        size = rest.find(b"\n")
        if size < 0:
            raise CheckpointError("a name in the pickle has no end: the file is damaged")
        text = self.text(size)
        self.position += 1
        return text

    # Stack

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        if not self.stack:
            raise CheckpointError("the pickle takes more from its stack than there is: the file is damaged")
        return self.stack.pop()

    def top(self) -> object:
        if not self.stack:
            raise CheckpointError("the pickle refers to an object that does not exist: the file is damaged")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.outer) >= MAX_DEPTH:
            raise CheckpointError(f"the pickle nests deeper than {MAX_DEPTH}")
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[object]:
        if not self.outer:
            raise CheckpointError("the pickle closes a group that it never opened: the file is damaged")
        items, self.stack = self.stack, self.outer.pop()
        return items

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    # Containers

    def append(self, items: list[object]) -> None:
        target = self.top()
        if type(target) is not list:
            raise CheckpointError("the pickle appends to something that is no list")
        target.extend(items)

    def set_items(self, items: list[object]) -> None:
        target = self.top()
        if type(target) is not dict or len(items) % 2:
            raise CheckpointError("the pickle sets items of something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Whole numbers are keys of optimizer states; bounded, so that they cannot be made to collide.
            if type(key) is not str and not (type(key) is int and 0 <= key < 2**31):
                raise CheckpointError("a dictionary key is neither a string nor a small number")
            target[key] = value

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def add_items(self, items: list[object]) -> None:
        target = self.top()
        if type(target) is not set or any(type(item) is not str for item in items):
            raise CheckpointError("the pickle adds to something that is no set of strings")
        target.update(items)

    # Memo

    def put(self, index: int) -> None:
        if index >= MAX_MEMO:
            raise CheckpointError(f"the pickle sets memo entry {index} (limit {MAX_MEMO})")
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise CheckpointError(f"the pickle refers to memo entry {index}, which does not exist")
        self.push(self.memo[index])

    # Names and calls

    def named(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise CheckpointError("the pickle names an object by something that is no string")
        self.push(self.safe_globals.find(module, name))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.named(module, name)

    def reduce(self) -> None:
        arguments, target = self.pop(), self.pop()
        if type(target) is not SafeGlobal or target.call is None or type(arguments) is not tuple:
            raise CheckpointError("the pickle calls something that may not be called")
        self.push(target.call(arguments))

    def new_object(self) -> None:
        arguments, target = self.pop(), self.pop()
        if type(target) is not SafeGlobal or target.create is None or arguments != ():
            raise CheckpointError("the pickle creates an object of a kind that may not be created")
        self.push(target.create())

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if type(target) is dict:  # torch hangs `_metadata` on a state dict: version numbers, not needed
            if type(state) is not dict or len(state) > 1 or (state and "_metadata" not in state):
                raise CheckpointError("the pickle sets attributes of a dictionary")
        elif isinstance(target, Placeholder):
            target.build(state)
        else:
            raise CheckpointError("the pickle sets the state of something that has none")

    def persistent(self) -> None:
        if self.persistent_load is None:
            raise CheckpointError("the pickle refers to data outside of it, which a plain pickle cannot")
        self.push(self.persistent_load(self.pop()))

    def refuse_operation(self, code: int) -> None:
        if code == ord("i"):  # INST: a name and a call in one
            raise CheckpointError(f"the pickle uses the opcode INST to call {quote(self.line() + '.' + self.line())}")
        raise CheckpointError(
            f"byte {self.position - 1} of the pickle is opcode {bytes([code])!r}, which no supported checkpoint uses"
        )

    def protocol(self) -> None:
        if not 2 <= (version := self.unsigned(1)) <= 5:
            raise CheckpointError(f"pickle protocol {version}; 2 to 5 are supported")

    def frame(self) -> None:
        if self.unsigned(8) > len(self.content) - self.position:
            raise CheckpointError("a frame of the pickle is longer than the file: the file is incomplete")

    def integer(self, size: int) -> None:
        if size > MAX_INTEGER_BYTES:
            raise CheckpointError(f"a whole number of {size} bytes is longer than {MAX_INTEGER_BYTES}")
        self.push(int.from_bytes(self.take(size), "little", signed=True))


_STOP = ord(".")
_OPERATIONS: Mapping[int, Callable[[_Machine], None]] = {
    0x80: _Machine.protocol,
    0x95: _Machine.frame,
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.integer(4),
    ord("K"): lambda m: m.push(m.unsigned(1)),
    ord("M"): lambda m: m.push(m.unsigned(2)),
    0x8A: lambda m: m.integer(m.unsigned(1)),
    0x8B: lambda m: m.integer(m.unsigned(4)),
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    0x8C: lambda m: m.push(m.text(m.unsigned(1))),
    ord("X"): lambda m: m.push(m.text(m.unsigned(4))),
    0x8D: lambda m: m.push(m.text(m.unsigned(8))),
    ord("C"): lambda m: m.push(m.take(m.unsigned(1))),
    ord("B"): lambda m: m.push(m.take(m.unsigned(4))),
    0x8E: lambda m: m.push(m.take(m.unsigned(8))),
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    0x8F: lambda m: m.push(set()),
    ord(")"): lambda m: m.push(()),
    ord("("): _Machine.mark,
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("e"): lambda m: m.append(m.since_mark()),
    ord("s"): _Machine.set_item,
    ord("u"): lambda m: m.set_items(m.since_mark()),
    0x90: lambda m: m.add_items(m.since_mark()),
    ord("q"): lambda m: m.put(m.unsigned(1)),
    ord("r"): lambda m: m.put(m.unsigned(4)),
    0x94: lambda m: m.put(len(m.memo)),
    ord("h"): lambda m: m.get(m.unsigned(1)),
    ord("j"): lambda m: m.get(m.unsigned(4)),
    ord("c"): lambda m: m.named(m.line(), m.line()),
    0x93: _Machine.stack_global,
    ord("R"): _Machine.reduce,
    0x81: _Machine.new_object,
    ord("b"): _Machine.build,
    ord("Q"): _Machine.persistent,
}
