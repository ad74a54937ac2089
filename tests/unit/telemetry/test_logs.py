"""The log: fields, JSON, and a reader that does not read."""

import io
import json
import logging
import threading

import pytest

from stylewire.server.telemetry import logs
from stylewire.server.telemetry.logs import BufferedHandler, Fields, JsonFormatter


def record(message, *arguments, **kwargs):
    return logging.LogRecord("stylewire.x", logging.INFO, "", 0, message, arguments, None, **kwargs)


def test_fields_are_readable_as_text():
    """A line of fields is name=value in their order."""
    assert "code=OK batch=4" == logging.Formatter().format(record(Fields(code="OK", batch=4)))


def test_fields_are_an_object_in_json():
    """Fields keep their names and types."""
    line = json.loads(JsonFormatter().format(record(Fields(code="OK", batch=4))))

    assert line.pop("time").endswith("Z")
    assert {"level": "INFO", "logger": "stylewire.x", "code": "OK", "batch": 4} == line


def test_message_cannot_break_a_json_line():
    """Line breaks and quotes in a message stay inside its string."""
    line = JsonFormatter().format(record('a %s\n"b"', "x\n{}"))

    assert 'a x\n{}\n"b"' == json.loads(line)["message"]
    assert "\n" not in line


def test_json_has_the_traceback():
    """An exception is in the line that reports it."""
    with pytest.raises(ValueError, match="x") as caught:
        int("x")
    made = record("failed")
    made.exc_info = (caught.type, caught.value, caught.tb)

    assert "ValueError: invalid literal" in json.loads(JsonFormatter().format(made))["exception"]


@pytest.fixture
def logger():
    """A logger that nobody else has."""
    logger = logging.getLogger("stylewire.test")
    logger.setLevel(logging.INFO)
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


class Stuck(io.StringIO):
    """A stream that takes nothing until it is told."""

    def __init__(self):
        super().__init__()
        self.asked, self.free = threading.Event(), threading.Event()

    def write(self, text):
        self.asked.set()
        self.free.wait(30)
        return super().write(text)


def test_lines_are_written_in_order_and_all(logger):
    """Closing writes what waits."""
    stream = io.StringIO()
    logger.addHandler(BufferedHandler(stream))
    for number in range(1000):
        logger.info("%d", number)
    logger.handlers[0].close()

    assert [str(number) for number in range(1000)] == stream.getvalue().split()


def test_reader_that_does_not_read_holds_nobody(logger, monkeypatch):
    """While nobody takes the lines logging returns at once; too many are dropped, and how many is told."""
    monkeypatch.setattr(logs, "_WAITING_LINES", 100)
    stream = Stuck()
    handler = BufferedHandler(stream)
    logger.addHandler(handler)
    logger.info("first")
    stream.asked.wait(30)
    for number in range(150):
        logger.info("line %d", number)
    stream.free.set()
    handler.close()

    lines = stream.getvalue().splitlines()
    assert ["first", "line 0"] == lines[:2]
    assert "line 99" == lines[100]
    assert "50 lines dropped: nobody read them" == lines[101]


def test_full_disk_is_survived(logger):
    """A stream that fails loses its lines, and those after it are written."""

    class Full(io.StringIO):
        failed = threading.Event()

        def write(self, text):
            if not self.failed.is_set():
                self.failed.set()
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    handler = BufferedHandler(stream)
    logger.addHandler(handler)
    logger.info("lost")
    stream.failed.wait(30)
    logger.info("kept")
    handler.close()

    assert "kept\n" == stream.getvalue()
