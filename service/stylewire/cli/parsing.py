"""Parsers of options: ``0-15,20`` for seeds, ``coarse``, ``16-32px`` or ``0-3`` for layers, paths by suffix."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import NewType

import typer

from stylewire.client.inputs import LayerChoice, layers, resolutions
from stylewire.latents import ROLE_RANGES_PX
from stylewire.media.sheets import ANIMATION_SUFFIXES, SHEET_SUFFIXES

Seeds = NewType("Seeds", list[int])
Classes = NewType("Classes", list[int])
Points = NewType("Points", list[int | Path])
"""Seeds, codes and pictures, in the order of the command line."""
Choices = NewType("Choices", list[LayerChoice])
SheetPath = NewType("SheetPath", Path)
AnimationPath = NewType("AnimationPath", Path)

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
CODE_SUFFIX = ".npz"
VIDEO_SUFFIXES = frozenset({".mp4", ".webm"})
_SEED_COUNT_MAX = 100_000
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_RESOLUTIONS = re.compile(r"(\d+)(?:-(\d+))?px")


def parse_seeds(text: str) -> Seeds:
    """Parse seeds such as ``7``, ``0-15`` or ``1,4,10-12``; both ends of a range are included."""
    return Seeds([number for part in text.split(",") for number in _seeds(part)])


def parse_classes(text: str) -> Classes:
    """Parse classes such as ``3`` or ``0-9``; both ends of a range are included."""
    expected = "a class such as 3 or a range such as 0-9"
    return Classes([number for part in text.split(",") for number in _numbers(part, expected)])


def parse_points(text: str) -> Points:
    """Parse seeds, and files of codes and pictures, such as ``0-3,me.npz,you.png``."""
    points: list[int | Path] = []
    for part in text.split(","):
        if Path(part).suffix.lower() in PICTURE_SUFFIXES | {CODE_SUFFIX}:
            points.append(Path(part))
        else:
            points.extend(_seeds(part, ", a file of a code (.npz) or a picture"))
    return Points(points)


def parse_layers(text: str) -> Choices:
    """Parse layers such as ``coarse``, ``16-32px``, ``0-3`` or ``0-3,8``; both ends of a range are included."""
    chosen: list[LayerChoice] = []
    for part in (part.strip() for part in text.split(",")):
        role = next((role for role in ROLE_RANGES_PX if role == part), None)
        if role is not None:
            chosen.append(layers(role))
        elif match := _RESOLUTIONS.fullmatch(part):
            low_px, high_px = _ordered(part, match)
            chosen.append(resolutions(low_px, high_px))
        else:
            known = f"{', '.join(ROLE_RANGES_PX)}, resolutions such as 16px or 4-8px, a layer such as 8"
            first, last = _ends(part, f"{known} or a range such as 0-3")
            chosen.append((first, last + 1))
    return Choices(chosen)


def parse_sheet_path(text: str) -> SheetPath:
    """Parse the path of a picture to write."""
    return SheetPath(_path(text, SHEET_SUFFIXES))


def parse_animation_path(text: str) -> AnimationPath:
    """Parse the path of an animation or video to write, or of a folder for its frames."""
    return AnimationPath(_path(text, ANIMATION_SUFFIXES | VIDEO_SUFFIXES | {""}))


def _seeds(part: str, also: str = "") -> range:
    return _numbers(part, f"a seed such as 7 or a range such as 0-15{also}")


def _numbers(part: str, expected: str) -> range:
    first, last = _ends(part, expected)
    if last - first >= _SEED_COUNT_MAX:
        raise typer.BadParameter(f"{part} has {last - first + 1} numbers; the most is {_SEED_COUNT_MAX}")
    return range(first, last + 1)


def _ends(part: str, expected: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(part.strip())
    if match is None:
        raise typer.BadParameter(f"{part!r} is not {expected}")
    return _ordered(part, match)


def _ordered(part: str, match: re.Match[str]) -> tuple[int, int]:
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
