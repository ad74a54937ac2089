"""Where a model directory is written: checked first, made beside its place, moved there as a whole or not at all."""

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stylewire.manifest import MODEL_NAME_PATTERN
from stylewire_export.errors import BundleError


def check_target(out: Path, name: str, *, force: bool) -> None:
    """Refuse a name that no model may have, and a directory that exists unless it is to be replaced.

    Raises:
        BundleError: what to change.
    """
    if not re.fullmatch(MODEL_NAME_PATTERN, name):
        raise BundleError(f"the name {name!r} is not allowed: use up to 63 of a-z, 0-9, - and _, such as 'faces'")
    if (out / name).exists() and not force:
        raise BundleError(f"{out / name} exists: choose another --name, or --force to replace it")


@contextmanager
def staging(out: Path, name: str) -> Iterator[Path]:
    """Yield a directory beside ``out/name`` that replaces it when the block ends without an error, else is removed."""
    target = out / name
    missing = [parent for parent in (out, *out.parents) if not parent.exists()]
    out.mkdir(parents=True, exist_ok=True)
    directory = out / f".{name}-{uuid.uuid4().hex}"
    try:
        directory.mkdir()
        yield directory
        replaced = directory.with_name(f"{directory.name}-replaced")
        if target.exists():  # only by force
            target.rename(replaced)
        directory.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        for parent in missing:
            parent.rmdir()
        raise
