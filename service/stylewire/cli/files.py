"""Files of the command line: those to read, and checks of those to write."""

import glob
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

import typer


def find_files(paths: Sequence[Path], suffixes: Collection[str], kind: str) -> list[Path]:
    """List files: those named, and those of these suffixes in a folder or found by a pattern such as ``a/**``.

    Raises:
        typer.BadParameter: a folder has none, or a pattern finds none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            part = _of_suffixes(path.iterdir(), suffixes)
        elif glob.has_magic(str(path)) and not path.exists():
            part = _of_suffixes(map(Path, glob.glob(str(path), recursive=True)), suffixes)  # noqa: PTH207 - absolute ones too
        else:
            part = [path]
        if not part:
            raise typer.BadParameter(f"no {kind} in {path}")
        found += part
    return list(dict.fromkeys(found))


def check_targets(targets: Iterable[Path], sources: Sequence[Path] = ()) -> None:
    """Refuse to write a file twice, or over one that is read. Other files are replaced.

    Raises:
        typer.BadParameter: names the file.
    """
    read = {path.resolve() for path in sources}
    folder = cache(Path.resolve)  # of each file only if files are read: there may be a hundred thousand
    seen: set[Path] = set()
    for target in targets:
        place = target.resolve() if read else folder(target.parent) / target.name
        if place in read:
            raise typer.BadParameter(f"{target} would be written over what is read; choose another folder")
        if place in seen:
            raise typer.BadParameter(f"{target} would be written twice; two files have the same name")
        seen.add(place)


def _of_suffixes(paths: Iterable[Path], suffixes: Collection[str]) -> list[Path]:
    return sorted(each for each in paths if each.suffix.lower() in suffixes and each.is_file())
