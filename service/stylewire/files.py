"""Atomic writes: a file is whole or absent, whatever ends the writing."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside a file; what is written there replaces the file, or is removed after an error.

    What is no regular file, such as a pipe, is written directly.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.exists() and not target.is_file():
        yield target
        return
    draft = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")  # writers choose the format by the suffix
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
