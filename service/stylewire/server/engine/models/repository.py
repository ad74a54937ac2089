"""The model repository as a scan finds it: ``<name>/model.json`` or ``<name>/<version>/model.json``.

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
class ModelVersion:
    """A model directory: a version of a model, or a model that has only one.

    Attributes:
        directory: where it was found; may lead over symbolic links that are changed later.
        name: of the model.
        version: name of the directory; empty where a model has only one.
        signature: of its files.
        problem: why it cannot be loaded; empty if nothing is known against it.
        settled: whether it was the same for a while, so that nobody is copying it right now.
    """

    directory: Path
    name: str
    version: str
    signature: Signature
    problem: str = ""
    settled: bool = True

    @property
    def reference(self) -> str:
        """How requests name it."""
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
class Scan:
    """What one scan found.

    Attributes:
        model_versions: by name, and of a name the newest version first.
        unreadable: directories that could not be read.
    """

    model_versions: tuple[ModelVersion, ...]
    unreadable: tuple[Path, ...] = ()


class _Known(NamedTuple):
    """What a manifest said when it had this stamp; one that cannot be read keeps the name that was known before."""

    stamp: Signature
    name: str
    files: tuple[str, ...]
    problem: str


class Repository:
    """A folder of model directories; one that is itself a model directory is a repository of one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[Path, _Known] = {}

    def scan(self) -> Scan:
        """Find the model directories; reads only the manifests that are new. It blocks, so call it in a thread.

        Raises:
            OSError: the folder itself cannot be read.
        """
        found, unreadable = list[ModelVersion](), list[Path]()
        if _has_manifest(self.path):
            found.append(self._model_version(self.path))
        for child in _children(self.path):
            try:
                found += self._models(child)
            except FileNotFoundError:  # removed meanwhile
                continue
            except OSError as err:
                log.debug("%s is left out: %s", child, err)
                unreadable.append(child)
        here = {each.directory for each in found}
        self._known = {path: known for path, known in self._known.items() if path in here}
        found.sort(key=lambda each: version_order(each.version), reverse=True)
        found.sort(key=lambda each: each.name)
        return Scan(tuple(_refuse_twins(found)), tuple(unreadable))

    def _models(self, directory: Path) -> list[ModelVersion]:
        """Find the model in a child of the folder, and its versions."""
        found = [self._model_version(directory)] if _has_manifest(directory) else []
        return found + [self._version(child) for child in _children(directory) if _has_manifest(child)]

    def _version(self, directory: Path) -> ModelVersion:
        name, version = directory.parent.name, directory.name
        model_version = replace(self._model_version(directory), version=_safe(version))
        if not VERSION_PATTERN.fullmatch(version):
            wrong = "the name of a version is 1 to 63 letters, digits, '.', '_' or '-'; rename the directory"
            return replace(model_version, name=_safe(name), problem=f"{directory}: {wrong}")
        if model_version.name != name and not model_version.problem:
            wrong = f"its model.json names {model_version.name!r} and its folder is {name!r}; rename the folder"
            return replace(model_version, name=_safe(name), problem=f"{directory}: {wrong}")
        return replace(model_version, name=_safe(name))

    def _model_version(self, directory: Path) -> ModelVersion:
        stamp, before = _signature(directory, ()), self._known.get(directory)
        if before is None or before.stamp != stamp:
            before = self._known[directory] = _read(directory, stamp, before.name if before else _safe(directory.name))
        signature = _signature(directory, before.files)
        return ModelVersion(
            directory=directory, name=before.name, version="", signature=signature, problem=before.problem
        )


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


def _refuse_twins(model_versions: list[ModelVersion]) -> Iterator[ModelVersion]:
    """Note a problem of directories that claim to be the same model."""
    counts = Counter(each.reference for each in model_versions)
    for each in model_versions:
        if counts[each.reference] > 1 and not each.problem:
            wrong = f"there are two models named {each.reference}; rename one, or make versions of them: NAME/VERSION"
            yield replace(each, problem=f"{each.directory}: {wrong}")
        else:
            yield each


def _safe(text: str) -> str:
    """Replace what a name may not have; real names stay as they are."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:63]
