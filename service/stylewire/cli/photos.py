"""Shared by the commands that start from pictures: files, options of the encoder, errors of single pictures."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import PIL.Image
import PIL.ImageOps
import typer
from PIL.Image import Image

from stylewire.cli.calls import in_order
from stylewire.cli.files import find_files
from stylewire.cli.options import PICTURES
from stylewire.cli.output import Report, progress
from stylewire.cli.parsing import PICTURE_SUFFIXES
from stylewire.client.options import Alignment
from stylewire.client.results import Picture
from stylewire.errors import InvalidFieldError, NoFaceError

_Result = TypeVar("_Result")
PICTURE_ERRORS = (InvalidFieldError, NoFaceError, OSError)
"""Errors of one picture, after which the others go on."""

Photos = Annotated[
    list[Path],
    typer.Argument(
        metavar="PICTURE...", help="PNG, JPEG or WebP files, folders of them, or patterns such as 'a/*.jpg'."
    ),
]
Refinement = Annotated[
    int,
    typer.Option(
        "--refine-steps", min=0, help="Steps that improve each code; see stylewire project.", rich_help_panel=PICTURES
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOptions:
    """How the server inverts pictures.

    Attributes:
        encoder: name of the encoder.
        align: which faces are cropped first.
    """

    encoder: Annotated[
        str, typer.Option(help="Name of the encoder, when the model has several.", rich_help_panel=PICTURES)
    ] = ""
    align: Annotated[
        Alignment | None,
        typer.Option(help="Crop the largest face first: of a person, or of a drawing.", rich_help_panel=PICTURES),
    ] = None


def find_photos(paths: Sequence[Path]) -> list[Path]:
    """List the pictures in files, folders and patterns."""
    return find_files(paths, PICTURE_SUFFIXES, "pictures")


async def run_each(
    label: str, files: Sequence[Path], call: Callable[[Path], Coroutine[Any, Any, _Result]], report: Report
) -> AsyncIterator[tuple[Path, _Result]]:
    """Yield each picture with the result of its call; report a picture that fails, and go on with the others."""

    async def attempt(file: Path) -> _Result | InvalidFieldError | NoFaceError | OSError:
        try:
            return await call(file)
        except PICTURE_ERRORS as error:
            return error

    with progress(label, len(files)) as bar:
        async for file, result in in_order(attempt, files):
            if isinstance(result, PICTURE_ERRORS):
                report.failed(file, result)
            else:
                yield file, result
            bar.advance()


def sheet_row(file: Path, aligned: Picture | None, drawn: Picture) -> list[Image | None]:
    """Return a picture, what the encoder saw of it, and the result, in one size: a row of a sheet."""
    with PIL.Image.open(file) as opened:
        opened.draft("RGB", (drawn.width_px, drawn.height_px))  # a large JPEG is decoded small
        original = PIL.ImageOps.contain(
            PIL.ImageOps.exif_transpose(opened).convert("RGB"), (drawn.width_px, drawn.height_px)
        )
    return [original, aligned.image if aligned else None, drawn.image]
