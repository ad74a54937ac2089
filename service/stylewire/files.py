"""Files that are whole or absent: nobody finds half a picture, whatever ends the writing."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a path beside a file; what is written there takes the file's place, or vanishes after an error.

    What is no regular file, such as a pipe, is written as it is.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.exists() and not target.is_file():
        yield target
        return
    draft = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")  # writers tell the format by the suffix
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
