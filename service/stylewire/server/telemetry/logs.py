"""Logging set-up of the server process; the library itself configures nothing."""

import json
import logging
import sys
import threading
import time
from typing import Any, Literal, TextIO

_PAUSE_SECONDS = 0.05
"""Lines of so long are written together: a system call a line costs more than making the line."""
_WAITING_LINES = 10_000
"""Lines that wait for whoever reads the log; what comes then is dropped and counted."""
_CLOSE_SECONDS = 1.0


class Fields(dict[str, Any]):
    """A log message of named values: ``name=value`` in text, an object in JSON."""

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.items())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a JSON object."""
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{record.msecs:03.0f}Z",
            "level": record.levelname,
            "logger": record.name,
        }
        line |= record.msg if isinstance(record.msg, Fields) else {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class BufferedHandler(logging.Handler):
    """Writes lines in a thread of its own: neither a slow disk nor a full pipe may hold the event loop.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: list[str] = []
        self._dropped = 0
        self._closing = False
        self._wanted = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line of a record; drop and count it where too many wait."""
        line = self.format(record)
        with self._wanted:
            if len(self._lines) >= _WAITING_LINES:
                self._dropped += 1
                return
            self._lines.append(line)
            if len(self._lines) == 1:
                self._wanted.notify()

    def close(self) -> None:
        """Write the queued lines, for a second at most: a reader that does not read must not keep the process."""
        with self._wanted:
            self._closing = True
            self._wanted.notify()
        self._thread.join(_CLOSE_SECONDS)
        super().close()

    def _write(self) -> None:
        while lines := self._next_lines():
            try:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # the disk is full, or the reader has gone: serving goes on
                continue

    def _next_lines(self) -> list[str]:
        """Wait for lines; return none when the handler was closed."""
        with self._wanted:
            self._wanted.wait_for(lambda: self._lines or self._closing)
            if not self._closing:
                self._wanted.wait(_PAUSE_SECONDS)
            lines, self._lines = self._lines, []
            if self._dropped:
                note = {
                    "name": __name__,
                    "levelname": "WARNING",
                    "msg": f"{self._dropped} lines dropped: nobody read them",
                }
                lines.append(self.format(logging.makeLogRecord(note)))
                self._dropped = 0
            return lines


def configure(level: str, line_format: Literal["text", "json"] = "text") -> None:
    """Log to stderr, one line an event."""
    handler = BufferedHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonFormatter() if line_format == "json" else text)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # What no line shows need not be found out; the caller's frame alone takes as long as the line itself.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = ""  # noqa: SLF001 - as the HOWTO says under "Optimization"
