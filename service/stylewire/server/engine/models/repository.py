"""The models folder as a look at it finds it: ``<name>/model.json`` or ``<name>/<version>/model.json``.

Names that callers send are only ever compared with what is found here; no path is made of them.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

from stylewire.manifest import FILE_NAME, Manifest, ManifestError
from stylewire.server.engine_api.catalog import version_order

log = logging.getLogger(__name__)

VERSION_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of change and inode of the files of a model: another one means other content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model directory.

    Attributes:
        directory: where it was found; may lead over symbolic links that are changed later.
        name: of the model.
        version: name of the directory; empty where a model has only one.
        signature: of its files.
        problem: why it cannot be loaded; empty if nothing is known against it.
        settled: whether it looked the same for a while, so that nobody is copying it right now.
    """

    directory: Path
    name: str
    version: str
    signature: Signature
    problem: str = ""
    settled: bool = True

    @property
    def reference(self) -> str:
        """What a request calls it."""
        return f"{self.name}@{self.version}" if self.version else self.name

    def content_directory(self) -> Path:
        """Follow the links to where the files are, so that all of them are of one state.

        Kubernetes shows a volume as links to ``..data/<file>``, and ``..data`` as a link that is changed at once.
        """
        content = (self.directory / FILE_NAME).resolve().parent
        if all((content / name).is_file() for name, *_ in self.signature):
            return content
        return self.directory.resolve()  # each file is a link of its own, as in the caches of download tools


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found.

    Attributes:
        entries: by name, and of a name the newest version first.
        unreadable: directories that could not be looked into.
    """

    entries: tuple[Entry, ...]
    unreadable: tuple[Path, ...] = ()


class _Known(NamedTuple):
    """What a manifest said when it had this stamp; one that cannot be read keeps the name that was known before."""

    stamp: Signature
    name: str
    files: tuple[str, ...]
    problem: str


class Folder:
    """A folder of model directories; a folder that is one itself counts as one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[Path, _Known] = {}

    def look(self) -> Look:
        """Find the model directories; reads only the manifests that are new. It blocks, so call it in a thread.

        Raises:
            OSError: the folder itself cannot be read.
        """
        found, unreadable = list[Entry](), list[Path]()
        if _has_manifest(self.path):
            found.append(self._entry(self.path))
        for child in _children(self.path):
            try:
                found += self._models(child)
            except FileNotFoundError:  # removed meanwhile
                continue
            except OSError as err:
                log.debug("%s is left out: %s", child, err)
                unreadable.append(child)
        here = {entry.directory for entry in found}
        self._known = {path: known for path, known in self._known.items() if path in here}
        found.sort(key=lambda entry: version_order(entry.version), reverse=True)
        found.sort(key=lambda entry: entry.name)
        return Look(tuple(_refuse_twins(found)), tuple(unreadable))

    def _models(self, directory: Path) -> list[Entry]:
        """Find the model in a child of the folder, and its versions."""
        found = [self._entry(directory)] if _has_manifest(directory) else []
        return found + [self._version(child) for child in _children(directory) if _has_manifest(child)]

    def _version(self, directory: Path) -> Entry:
        name, version = directory.parent.name, directory.name
        entry = replace(self._entry(directory), version=_safe(version))
        if not VERSION_PATTERN.fullmatch(version):
            wrong = "the name of a version is 1 to 63 letters, digits, '.', '_' or '-'; rename the directory"
            return replace(entry, name=_safe(name), problem=f"{directory}: {wrong}")
        if entry.name != name and not entry.problem:
            wrong = f"its model.json names {entry.name!r} and its folder is {name!r}; rename the folder"
            return replace(entry, name=_safe(name), problem=f"{directory}: {wrong}")
        return replace(entry, name=_safe(name))

    def _entry(self, directory: Path) -> Entry:
        stamp, before = _signature(directory, ()), self._known.get(directory)
        if before is None or before.stamp != stamp:
            before = self._known[directory] = _read(directory, stamp, before.name if before else _safe(directory.name))
        signature = _signature(directory, before.files)
        return Entry(directory=directory, name=before.name, version="", signature=signature, problem=before.problem)


def _children(directory: Path) -> list[Path]:
    """List the directories in one; names that begin with a dot are for whoever copies something here."""
    with os.scandir(directory) as children:
        return sorted(Path(child) for child in children if not child.name.startswith(".") and child.is_dir())


def _has_manifest(directory: Path) -> bool:
    return (directory / FILE_NAME).is_file()


def _read(directory: Path, stamp: Signature, name: str) -> _Known:
    try:
        manifest = Manifest.read(directory)
    except (ManifestError, OSError, RecursionError) as err:
        return _Known(stamp, name, (), str(err))
    return _Known(stamp, manifest.name, tuple(manifest.files), "")


def _signature(directory: Path, names: Iterable[str]) -> Signature:
    return tuple(_stat(directory, name) for name in (FILE_NAME, *sorted(names)))


def _stat(directory: Path, name: str) -> tuple[str, int, int, int]:
    try:
        stat = (directory / name).stat()
    except OSError:
        return name, -1, 0, 0
    return name, stat.st_size, stat.st_mtime_ns, stat.st_ino


def _refuse_twins(entries: list[Entry]) -> Iterator[Entry]:
    """Find something against directories that claim to be the same model."""
    counts = Counter(entry.reference for entry in entries)
    for entry in entries:
        if counts[entry.reference] > 1 and not entry.problem:
            wrong = f"there are two models named {entry.reference}; rename one, or make versions of them: NAME/VERSION"
            entry = replace(entry, problem=f"{entry.directory}: {wrong}")  # noqa: PLW2901
        yield entry


def _safe(text: str) -> str:
    """Make a name of a directory fit to be shown; real names stay as they are."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:63]
