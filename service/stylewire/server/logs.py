"""Logging set-up of the server process; the library itself configures nothing."""

import logging
import sys


def configure(level: str) -> None:
    """Log to stderr, one line an event."""
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    # What no line shows need not be found out; the caller's frame alone takes as long as the line itself.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = ""  # noqa: SLF001 - as the HOWTO says under "Optimization"
