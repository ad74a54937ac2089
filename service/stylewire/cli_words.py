"""Words of the command line: ``0-15,20`` for seeds, ``coarse`` or ``0-3`` for layers, paths by their suffix."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import NewType

import typer

from stylewire.latents import ROLE_RANGES_PX
from stylewire.sheets import ANIMATION_SUFFIXES, SHEET_SUFFIXES
from stylewire.sources import LayerChoice, layers

Seeds = NewType("Seeds", list[int])
Choices = NewType("Choices", list[LayerChoice])
SheetPath = NewType("SheetPath", Path)
AnimationPath = NewType("AnimationPath", Path)

VIDEO_SUFFIXES = frozenset({".mp4", ".webm"})
_SEED_COUNT_MAX = 100_000
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def parse_seeds(text: str) -> Seeds:
    """Read seeds such as ``7``, ``0-15`` or ``1,4,10-12``; both ends of a range are included."""
    numbers: list[int] = []
    for part in text.split(","):
        first, last = _ends(part, "a seed such as 7 or a range such as 0-15")
        if last - first >= _SEED_COUNT_MAX:
            raise typer.BadParameter(f"{part} has {last - first + 1} seeds; the most is {_SEED_COUNT_MAX}")
        numbers.extend(range(first, last + 1))
    return Seeds(numbers)


def parse_layers(text: str) -> Choices:
    """Read layers such as ``coarse``, ``0-3`` or ``0-3,8``; both ends of a range are included."""
    chosen: list[LayerChoice] = []
    for part in text.split(","):
        role = next((role for role in ROLE_RANGES_PX if role == part.strip()), None)
        if role is not None:
            chosen.append(layers(role))
        else:
            first, last = _ends(part, f"{', '.join(ROLE_RANGES_PX)}, a layer such as 8 or a range such as 0-3")
            chosen.append((first, last + 1))
    return Choices(chosen)


def parse_sheet_path(text: str) -> SheetPath:
    """Read the path of a picture to write."""
    return SheetPath(_path(text, SHEET_SUFFIXES))


def parse_animation_path(text: str) -> AnimationPath:
    """Read the path of an animation or video to write, or of a folder for its frames."""
    return AnimationPath(_path(text, ANIMATION_SUFFIXES | VIDEO_SUFFIXES | {""}))


def _ends(part: str, expected: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(part.strip())
    if match is None:
        raise typer.BadParameter(f"{part!r} is not {expected}")
    first = int(match[1])
    last = int(match[2] or first)
    if last < first:
        raise typer.BadParameter(f"{part!r} runs backward; write {last}-{first}")
    return first, last


def _path(text: str, suffixes: Collection[str]) -> Path:
    path = Path(text)
    if path.suffix.lower() not in suffixes:
        named = ", ".join(sorted(suffix for suffix in suffixes if suffix))
        raise typer.BadParameter(f"{text!r} ends in none of {named}")
    return path
