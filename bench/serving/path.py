"""Which of our files and rooms (their folders) one warm Generate runs on the server: ``make bench-serving BENCH=path``.

The server runs in this process, with the onnxruntime backend and the demo models, and a profiler notes every call of a
function of the package; the client is a process of its own. Nothing of the product is changed for it.
"""

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePath
from types import FrameType

import stylewire
from stylewire.demo import MODELS
from stylewire.server.app import App
from stylewire.server.config.settings import Settings

_HOME = f"{PurePath(stylewire.__file__).parent}/"
_SETTLE_SECONDS = 0.2
"""Before the call that is noted, and after it: what belongs to a call ends a little after its response is read."""
_CLIENT = """
import sys
from stylewire import Client
with Client(sys.argv[1]) as client:
    for calls in (5, 1):
        for _ in range(calls):
            client.generate([7], psi=0.7, format="jpeg")
        print("done", flush=True)
        sys.stdin.readline()
"""


@dataclass(slots=True)
class CallPath:
    """The calls of functions of the package, in the order in which they began, over all threads.

    Attributes:
        calls: file, relative to the package, and name of the function.
    """

    calls: list[tuple[str, str]] = field(default_factory=list)
    _noting: bool = False

    @property
    def files(self) -> list[str]:
        """The file of each call."""
        return [file for file, _ in self.calls]

    @property
    def rooms(self) -> list[str]:
        """The folder of each call."""
        return [str(PurePath(file).parent) for file in self.files]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the calls of this thread and of those that begin meanwhile; ``noting`` says which are kept."""
        threading.setprofile(self._look)
        sys.setprofile(self._look)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Keep the calls that begin meanwhile."""
        self._noting = True
        try:
            yield
        finally:
            self._noting = False

    def _look(self, frame: FrameType, event: str, argument: object) -> None:  # noqa: ARG002 - as sys calls it
        if self._noting and event == "call" and frame.f_code.co_filename.startswith(_HOME):
            self.calls.append((frame.f_code.co_filename[len(_HOME) :], frame.f_code.co_name))


def measure() -> CallPath:
    """Run a server, call it until it is warm, and note one Generate."""
    path = CallPath()
    with path.watching():
        asyncio.run(_note(path))
    return path


def changes(names: Sequence[str]) -> int:
    """Count how often a name differs from the one before."""
    return sum(before != name for before, name in pairwise(names))


def rows(path: CallPath) -> list[tuple[str, str]]:
    """Return the lines of the table."""
    calls = Counter(path.files)
    return [
        ("one warm Generate, onnxruntime, demo model: calls", str(len(path.calls))),
        ("distinct files", str(len(calls))),
        ("changes of the file", str(changes(path.files))),
        ("distinct rooms", str(len(set(path.rooms)))),
        ("changes of the room", str(changes(path.rooms))),
        *((f"calls in {file}", str(count)) for file, count in calls.most_common()),
    ]


async def _note(path: CallPath) -> None:
    server = App(
        Settings(
            models=MODELS,
            backend="onnxruntime",
            host="127.0.0.1",
            port=0,
            metrics_port=0,
            drain_seconds=0,
        )
    )
    await server.start()
    pipe = asyncio.subprocess.PIPE
    address = f"127.0.0.1:{server.port}"
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", _CLIENT, address, stdin=pipe, stdout=pipe)
    assert client.stdin
    assert client.stdout
    await client.stdout.readline()  # it is warm
    await asyncio.sleep(_SETTLE_SECONDS)
    with path.noting():
        client.stdin.write(b"\n")
        await client.stdout.readline()
        await asyncio.sleep(_SETTLE_SECONDS)
    client.stdin.write(b"\n")
    await client.wait()
    await server.stop(0)
