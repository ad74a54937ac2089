"""Contact sheets and animations: several pictures in one file, for looking at. Knows Pillow, not the API."""

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
from PIL.Image import Image, Resampling

from stylewire.files import replacing
from stylewire.media import xmp
from stylewire.media.provenance import Provenance, packet

SHEET_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
ANIMATION_SUFFIXES = frozenset({".gif", ".webp", ".png"})
_PAPER = (255, 255, 255)
_LONGEST_PX = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500}
"""Longest side that a format, or Pillow's writer of it, can have."""


def sheet(rows: Sequence[Sequence[Image | None]], *, gap_px: int = 2, zoom: int = 1) -> Image:
    """Lay out pictures in rows and columns.

    Args:
        rows: pictures of any sizes; None leaves a cell empty, short rows end early.
        gap_px: space between cells, before zooming.
        zoom: enlarges each pixel to a square of that many pixels, without smoothing.

    Returns:
        An RGB picture on white.

    Raises:
        ValueError: there is no picture.
    """
    cells = [picture for row in rows for picture in row if picture is not None]
    if not cells:
        raise ValueError("a sheet needs at least one picture")
    width, height = max(cell.width for cell in cells), max(cell.height for cell in cells)
    column_count = max(len(row) for row in rows)
    size = (column_count * (width + gap_px) - gap_px, len(rows) * (height + gap_px) - gap_px)
    paper = PIL.Image.new("RGB", size, _PAPER)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture is not None:
                _paste(paper, picture, (x * (width + gap_px), y * (height + gap_px)))
    return enlarged(paper, zoom)


def save_sheet(picture: Image, path: Path, origin: Provenance | None) -> None:
    """Write a sheet, by the path's suffix; ``origin`` is the provenance of the pictures on it.

    Raises:
        OSError: the file cannot be written, or its format cannot hold a sheet so large.
    """
    longest_px = _LONGEST_PX.get(path.suffix.lower(), 2**31 - 1)
    if max(picture.size) > longest_px:
        size = f"{picture.width} x {picture.height} px"
        raise OSError(f"{path}: a sheet of {size} is no {path.suffix}, which ends at {longest_px} px; write .png")
    with replacing(path) as draft:
        picture.save(draft)
        _mark(draft, origin)


def in_rows(pictures: Sequence[Image], column_count: int | None = None) -> list[Sequence[Image]]:
    """Break a list of pictures into rows.

    Args:
        pictures: one or more.
        column_count: None makes the sheet about square.
    """
    columns = column_count or max(1, round(len(pictures) ** 0.5))
    return [pictures[start : start + columns] for start in range(0, len(pictures), columns)]


def enlarged(picture: Image, zoom: int) -> Image:
    """Enlarge each pixel to a square, without smoothing."""
    if zoom == 1:
        return picture
    return picture.resize((picture.width * zoom, picture.height * zoom), Resampling.NEAREST)


def save_animation(
    frames: Sequence[Image], path: Path, *, frames_per_second: float, zoom: int = 1, origin: Provenance | None = None
) -> None:
    """Write an endless GIF, WebP or PNG animation, by the path's suffix.

    GIF knows 256 colors and hundredths of a second; both are rounded.

    Args:
        frames: one or more pictures of one size.
        path: the file.
        frames_per_second: speed.
        zoom: see ``sheet``.
        origin: the provenance of the frames.
    """
    first, *rest = [enlarged(frame, zoom) for frame in frames]
    with replacing(path) as draft:
        first.save(draft, save_all=True, append_images=rest, duration=round(1000 / frames_per_second), loop=0)
        _mark(draft, origin)


def _mark(path: Path, origin: Provenance | None) -> None:
    if origin is not None:
        xmp.embed_in_file(path, packet(origin))


def _paste(paper: Image, picture: Image, place: tuple[int, int]) -> None:
    if picture.mode == "RGBA":
        paper.paste(picture, place, mask=picture)
    else:
        paper.paste(picture.convert("RGB"), place)
