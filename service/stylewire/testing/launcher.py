"""``stylewire serve`` as a child process: the one way in which tests, benches and the demo start a server.

What starts other programs that a test interrupts uses ``with_default_signals``.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

_ANNOUNCEMENT = re.compile(r"stylewire: serving on (\S+), metrics on (\S+/metrics)")
_USUAL = ("--port", "0", "--metrics-port", "0", "--drain-seconds", "0")
_STOPS = (signal.SIGINT, signal.SIGTERM)
# Python ignores SIGPIPE and SIGXFSZ itself; Popen restores them, and so does what runs between it and the program.
_EXEC_WITH_DEFAULTS = (
    "import os, signal, sys\n"
    "for name in ('SIGINT', 'SIGTERM', 'SIGPIPE', 'SIGXFSZ'): signal.signal(getattr(signal, name), signal.SIG_DFL)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
_POLL_SECONDS = 0.01
_SHOWN_LOG_LINES = 15


class ServerProcessError(RuntimeError):
    """The server did not start or did not stop as it should; the message has the end of its log."""


class Announcement(NamedTuple):
    """Where a server says that it answers.

    Attributes:
        address: host and port of gRPC.
        metrics_url: its metrics page.
    """

    address: str
    metrics_url: str


class Exit(NamedTuple):
    """How a server ended.

    Attributes:
        code: of the process.
        log: all that it logged.
    """

    code: int
    log: str


def find_announcement(text: str) -> Announcement | None:
    """Find the line by which a server says that it is ready; None if it is not there yet."""
    match = _ANNOUNCEMENT.search(text)
    return Announcement(match[1], match[2]) if match else None


def with_default_signals(command: Sequence[str]) -> list[str]:
    """Make a command start with the default action of SIGINT and SIGTERM.

    A child inherits what its parent ignores, and a shell starts a background job with SIGINT ignored. Nothing of this
    process may change for a child, and ``preexec_fn`` is unsafe beside the threads of gRPC; so the child first runs a
    Python that restores the actions, and then becomes the program. It keeps its process id.
    """
    if not any(signal.getsignal(number) is signal.SIG_IGN for number in _STOPS):
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _EXEC_WITH_DEFAULTS, *command]


class ServerProcess:
    """``stylewire serve`` on free ports without a drain time; it answers when the constructor returns.

    The variables ``STYLEWIRE_*`` of this process are not passed on. As a context manager it kills a server that has not
    been stopped.

    Args:
        *arguments: further flags of ``stylewire serve``.
        command: what Python runs, before the flags.
        environment: variables on top of those of this process.
        log_path: takes the log; a temporary file if there is none.
        stdout: takes the announcement instead of a temporary file, as in ``Popen``.
        stderr: takes the log instead of a file, as in ``Popen``; then ``log`` is empty.
        start_timeout_seconds: how long it may take until it is ready.

    Attributes:
        process: the child.
        address: host and port of gRPC.
        metrics_url: its metrics page.
        start_seconds: from the start of the process to its readiness.

    Raises:
        ServerProcessError: it ended instead, or was not ready in time.
    """

    def __init__(  # noqa: PLR0913 - how a process is started, by name
        self,
        *arguments: str,
        command: Sequence[str] = ("-m", "stylewire", "serve"),
        environment: Mapping[str, str] | None = None,
        log_path: Path | None = None,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
        start_timeout_seconds: float = 120.0,
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STYLEWIRE_")}
        # Files, not pipes: the server would wait when a pipe is full.
        self._output: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._log: IO[str] = log_path.open("w+") if log_path else tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._whole_log = ""
        started = time.perf_counter()
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            with_default_signals([sys.executable, *command, *_USUAL, *arguments]),
            stdout=self._output if stdout is None else stdout,
            stderr=self._log if stderr is None else stderr,
            text=True,
            env={**inherited, **(environment or {})},
        )
        try:
            self.address, self.metrics_url = self._await_announcement(start_timeout_seconds)
        except BaseException:
            self.kill()
            raise
        self.start_seconds = time.perf_counter() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def port(self) -> int:
        """Of gRPC."""
        return int(self.address.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def log(self) -> str:
        """Return what the server has logged until now."""
        return self._whole_log if self._log.closed else _content(self._log)

    def stop(self, signal_number: int = signal.SIGTERM, timeout_seconds: float = 30.0, *, check: bool = False) -> Exit:
        """Send a signal and wait for the end.

        Args:
            signal_number: what to send.
            timeout_seconds: how long it may take to end.
            check: whether an exit code other than 0 is an error.

        Raises:
            ServerProcessError: it did not end in time, or not well.
        """
        self.process.send_signal(signal_number)
        ended = self.wait(timeout_seconds)
        if check and ended.code:
            name = signal.Signals(signal_number).name
            raise ServerProcessError(f"the server ended with exit code {ended.code} after {name}{_end_of(ended.log)}")
        return ended

    def wait(self, timeout_seconds: float = 30.0) -> Exit:
        """Wait for the end.

        Raises:
            ServerProcessError: it did not end in time.
        """
        try:
            code = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as err:
            message = f"the server did not end within {timeout_seconds:.0f} s{_end_of(self.log())}"
            raise ServerProcessError(message) from err
        if not self._log.closed:
            self._whole_log = self.log()
            self._log.close()
            self._output.close()
        return Exit(code, self._whole_log)

    def kill(self) -> None:
        """End the process at once, if it has not ended."""
        self.process.kill()
        self.wait()

    def resident_bytes(self) -> int:
        """Return the memory that the process has."""
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def processor_seconds(self) -> float:
        """Return the time for which its threads have had a core."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime + stime

    def metrics(self) -> "list[Sample]":
        """Return all samples of the metrics page at one moment."""
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - of the extra [server]

        with urllib.request.urlopen(self.metrics_url, timeout=10) as reply:  # noqa: S310 - the server's own address
            text = reply.read().decode()
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with this name and these labels; 0 if there is none."""
        return sum(each.value for each in self.metrics() if each.name == name and labels.items() <= each.labels.items())

    def _await_announcement(self, timeout_seconds: float) -> Announcement:
        """Wait for the line; a server that cannot print it logs it."""
        until = time.monotonic() + timeout_seconds
        while True:
            code = self.process.poll()
            if found := find_announcement(_content(self._output)) or find_announcement(self.log()):
                return found
            if code is not None:
                raise ServerProcessError(
                    f"the server ended with exit code {code} before it was ready{_end_of(self.log())}"
                )
            if time.monotonic() > until:
                raise ServerProcessError(f"the server was not ready in {timeout_seconds:.0f} s{_end_of(self.log())}")
            time.sleep(_POLL_SECONDS)


def _content(file: IO[str]) -> str:
    """Read a file that a child writes. Opened anew, since the child shares the position of what it has."""
    return Path(f"/proc/self/fd/{file.fileno()}").read_text(encoding="utf-8", errors="replace")


def _end_of(log: str) -> str:
    lines = log.splitlines()[-_SHOWN_LOG_LINES:]
    return "; its log ends with\n" + "\n".join(f"  {line}" for line in lines) if lines else "; its log is empty"
