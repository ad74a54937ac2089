"""Logging set-up of the server process; the library itself configures nothing."""

import logging
import sys


def configure(level: str) -> None:
    """Log to stderr, one line an event."""
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
