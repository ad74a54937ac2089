"""What the server and the process that optimizes tell each other, and how it goes through a pipe."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from stylewire.latents import Array
from stylewire.server.engine_api.projection import Found, Progress

Value: TypeAlias = str | int | float | bool | list[int]

HEAD_BYTES = 16
_HEAD = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A code to be moved until its picture is the target.

    Attributes:
        directory: of the model.
        digest: of the model, so that one that was replaced meanwhile is noticed.
        start: float32[L, D].
        encoded: whether the start is an encoder's answer; else it is the mean code.
        mean: float32[D], of the mapping network's codes.
        target: float32[C, R, R] in [-1, 1].
        step_count: at least 1.
        seed: of what is random.
        noise_sides_px: of the noise maps that are optimized too; empty for the stored ones.
        picture_interval: every so many steps the progress has the code, for a picture; 0 for never.
    """

    directory: str
    digest: str
    start: Array
    encoded: bool
    mean: Array
    target: Array
    step_count: int
    seed: int = 0
    noise_sides_px: tuple[int, ...] = ()
    picture_interval: int = 0

    def shows(self, step: int) -> bool:
        """Whether the progress of a step has the code."""
        return self.picture_interval > 0 and step % self.picture_interval == 0


class Message(NamedTuple):
    """One thing that is told.

    Attributes:
        kind: ``task`` or ``cancel`` to the process; ``progress``, ``found``, ``cancelled`` or ``failed`` from it.
        fields: plain values.
        arrays: float32 arrays.
    """

    kind: str
    fields: Mapping[str, Value] = {}
    arrays: Mapping[str, Array] = {}

    def pack(self) -> bytes:
        """Write it, with the sizes of its parts in front."""
        shapes = {name: array.shape for name, array in self.arrays.items()}
        header = json.dumps({"kind": self.kind, "fields": dict(self.fields), "shapes": shapes}).encode()
        body = b"".join(np.ascontiguousarray(array, np.float32).tobytes() for array in self.arrays.values())
        return _HEAD.pack(len(header), len(body)) + header + body

    @classmethod
    def unpack(cls, header: bytes, body: bytes) -> "Message":
        """Read it."""
        told, arrays, start = json.loads(header), {}, 0
        for name, shape in told["shapes"].items():
            count = int(np.prod(shape))
            arrays[name] = np.frombuffer(body, np.float32, count, start).reshape(shape).copy()
            start += 4 * count
        return cls(told["kind"], told["fields"], arrays)


def sizes(head: bytes) -> tuple[int, int]:
    """Read how long header and body are."""
    header_bytes, body_bytes = _HEAD.unpack(head)
    return header_bytes, body_bytes


def task_message(task: Task) -> Message:
    """Tell a task."""
    fields: dict[str, Value] = {
        "directory": task.directory,
        "digest": task.digest,
        "encoded": task.encoded,
        "step_count": task.step_count,
        "seed": task.seed,
        "noise_sides_px": list(task.noise_sides_px),
        "picture_interval": task.picture_interval,
    }
    return Message("task", fields, {"start": task.start, "mean": task.mean, "target": task.target})


def read_task(message: Message) -> Task:
    """Read what ``task_message`` told."""
    fields: dict[str, object] = {**message.fields, "noise_sides_px": tuple(message.fields["noise_sides_px"])}  # type: ignore[arg-type]  # a list
    return Task(**fields, **message.arrays)  # type: ignore[arg-type]  # as they were told


def progress_message(progress: Progress) -> Message:
    """Tell progress."""
    values = {name: getattr(progress, name) for name in Progress.__slots__}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    return Message("progress", {name: v for name, v in values.items() if isinstance(v, (int, float))}, arrays)


def read_progress(message: Message) -> Progress:
    """Read what ``progress_message`` told."""
    return Progress(**message.fields, **message.arrays)  # type: ignore[arg-type]  # as they were told


def found_message(found: Found) -> Message:
    """Tell the end."""
    return Message("found", {}, {"code": found.code, **({} if found.noise is None else {"noise": found.noise})})


def read_found(message: Message) -> Found:
    """Read what ``found_message`` told."""
    return Found(**message.arrays)
