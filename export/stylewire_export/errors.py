"""Errors of the export. The command line prints their text as it is: one sentence, no traceback."""

from collections.abc import Sequence


class CheckpointError(ValueError):
    """A checkpoint file is not read; the message says what was found and what is supported."""


class BundleError(Exception):
    """The model directory cannot be written as asked; the message says what to change."""


class VerificationError(Exception):
    """A graph file does not compute what the checkpoint computes; the message names file, output, error and limit."""


def quote(value: object, limit: int = 120) -> str:
    """Convert a value that came from a file to text for a message: escaped, and cut after ``limit`` characters.

    Containers are never walked: a few bytes of a file can make one of 10^30 items.
    """
    if isinstance(value, list | tuple) and all(type(item) in (int, float, bool) for item in value[:limit]):
        value = list(value[:limit])
    elif value is not None and not isinstance(value, str | int | float):
        return f"a {type(value).__name__}"
    shown = str(value)[: limit + 1]
    return ascii(shown[:limit] + "..." if len(shown) > limit else shown)


def quote_all(names: Sequence[str], *, most: int = 3, limit: int = 120) -> str:
    """Convert names that came from a file to text for a message: the first ``most`` of them, each as by ``quote``."""
    return ", ".join(quote(name, limit) for name in names[:most]) + (" ..." if len(names) > most else "")
