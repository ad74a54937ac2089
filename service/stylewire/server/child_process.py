"""A process that the server starts for work of one kind: both ends of it, and what goes between them.

A process of its own, since nothing of such work may hold up the calls of the server or end it: it has its own memory,
interpreter lock and priority, and the server can kill it. It ends when its connection does.
"""

import contextlib
import importlib
import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

_NUMPY = frozenset({"_frombuffer", "_reconstruct", "dtype", "ndarray", "scalar"})
"""What NumPy pickles arrays with."""
_EXIT_SECONDS = 1.0
"""A connection ends a moment before its process has an exit code."""


class ChildError(Exception):
    """The process has ended, or was killed; the message goes on where "the process" begins.

    Attributes:
        timed_out: whether it took too long.
    """

    def __init__(self, message: str, *, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class ChildProcess:
    """The server's end. One thread at a time may send, one receive; any may kill.

    Args:
        module: its function ``serve`` gets the connection, in the process.
        replies: classes of what the process sends; nothing else is read from it.
        niceness: how much less urgent it is than the server, 0 to 19.
        environment: variables that it has beside those of the server.
    """

    def __init__(
        self, module: str, replies: Iterable[type], *, niceness: int, environment: Mapping[str, str] | None = None
    ) -> None:
        self._replies = frozenset((each.__module__, each.__qualname__) for each in replies)
        paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        ours, theirs = socket.socketpair()
        with theirs:
            # Not -m: classes of a module __main__ would be others than those of the server.
            call = f"from {__name__} import main; main({module!r}, {theirs.fileno()}, {niceness})"
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-c", call],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a library prints is for the log
                pass_fds=[theirs.fileno()],
                env={**os.environ, **paths, **(environment or {})},
                start_new_session=True,  # Ctrl-C is for the server, which lets it finish
            )
        self._connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended: its own code, or minus the signal that killed it; None while it runs."""
        return self._process.poll()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.exit_code is None

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Kill the process if this takes longer. Around sending too: something large waits for the process to read.

        Raises:
            ChildError: it took longer, the process ended, or it was killed for a reply that was not declared; the
                cause says how that was noticed.
        """
        began, watch = time.monotonic(), threading.Timer(seconds, self._process.kill)
        watch.daemon = True
        watch.start()
        try:
            yield
        except (EOFError, OSError) as err:
            self.close(_EXIT_SECONDS)
            if time.monotonic() - began >= seconds:
                raise ChildError(f"took longer than {seconds:g} s", timed_out=True) from err
            code = self._process.returncode
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise ChildError(f"ended {how}", timed_out=False) from err
        except pickle.UnpicklingError as err:  # its memory is not its own any more
            self.close()
            raise ChildError(f"was killed: {err}", timed_out=False) from err
        finally:
            watch.cancel()

    def send(self, message: object) -> None:
        """Send a message; blocks until all of it is on the way.

        Raises:
            OSError: the process has ended.
        """
        self._connection.send(message)

    def receive(self) -> Any:
        """Wait for a message.

        Raises:
            EOFError, OSError: the process has ended.
            pickle.UnpicklingError: the message is none of those that were declared.
        """
        return read_reply(self._connection.recv_bytes(), self._replies)

    def kill(self) -> None:
        """End the process at once; whoever waits for a message waits no longer."""
        self._process.kill()

    def close(self, patience_seconds: float = 0.0) -> None:
        """Close the connection, at which the process ends, and wait for that; kill it if it takes longer."""
        self._connection.close()
        try:
            self._process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def read_reply(pickled: bytes, classes: frozenset[tuple[str, str]]) -> Any:
    """Read a message of a process that handles foreign files: of some classes only, so that it cannot run code here.

    Args:
        pickled: the message.
        classes: module and name of each.

    Raises:
        pickle.UnpicklingError: it has something of another class.
    """
    return _Unpickler(pickled, classes).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes, classes: frozenset[tuple[str, str]]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._classes = classes

    def find_class(self, module_name: str, global_name: str) -> Any:
        from_numpy = module_name.partition(".")[0] == "numpy" and global_name in _NUMPY
        if not from_numpy and (module_name, global_name) not in self._classes:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is none of the classes of a reply")
        return super().find_class(module_name, global_name)


def main(module: str, number: int, niceness: int) -> None:
    """Serve in the process until the server closes the connection or ends.

    Args:
        module: whose function ``serve`` does the work.
        number: file descriptor of the connection.
        niceness: how much less urgent it is than the server.
    """
    for each in (signal.SIGINT, signal.SIGTERM):  # a terminal and systemd signal the whole group; the server decides
        signal.signal(each, signal.SIG_IGN)
    serve = importlib.import_module(module).serve
    os.nice(niceness)
    with contextlib.suppress(EOFError, ConnectionError):
        serve(Connection(number))
