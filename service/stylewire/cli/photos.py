"""What the commands that start from pictures share: which ones, how the server reads them, and what cannot be read."""

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

_Answer = TypeVar("_Answer")
OF_ONE_PICTURE = (InvalidFieldError, NoFaceError, OSError)
"""What is wrong with one picture and says nothing about the others."""

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
class Reading:
    """How the server reads pictures.

    Attributes:
        encoder: which of the model.
        align: which faces it looks for.
    """

    encoder: Annotated[
        str, typer.Option(help="Name of the encoder, when the model has several.", rich_help_panel=PICTURES)
    ] = ""
    align: Annotated[
        Alignment | None,
        typer.Option(help="Crop the largest face first: of a person, or of a drawing.", rich_help_panel=PICTURES),
    ] = None


def find_photos(given: Sequence[Path]) -> list[Path]:
    """List the pictures that are meant."""
    return find_files(given, PICTURE_SUFFIXES, "pictures")


async def ask_each(
    label: str, files: Sequence[Path], ask: Callable[[Path], Coroutine[Any, Any, _Answer]], report: Report
) -> AsyncIterator[tuple[Path, _Answer]]:
    """Ask for each picture, several at once; says which are at fault themselves, and goes on with the others."""

    async def attempt(file: Path) -> _Answer | InvalidFieldError | NoFaceError | OSError:
        try:
            return await ask(file)
        except OF_ONE_PICTURE as error:
            return error

    with progress(label, len(files)) as bar:
        async for file, answer in in_order(attempt, files):
            if isinstance(answer, OF_ONE_PICTURE):
                report.failed(file, answer)
            else:
                yield file, answer
            bar.advance()


def line_of(file: Path, aligned: Picture | None, drawn: Picture) -> list[Image | None]:
    """Show a picture, what the encoder saw of it, and what became of it, side by side and of one size."""
    with PIL.Image.open(file) as opened:
        opened.draft("RGB", (drawn.width_px, drawn.height_px))  # a large JPEG is decoded small
        original = PIL.ImageOps.contain(
            PIL.ImageOps.exif_transpose(opened).convert("RGB"), (drawn.width_px, drawn.height_px)
        )
    return [original, aligned.image if aligned else None, drawn.image]
