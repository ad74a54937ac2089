"""``stylewire inspect``: the provenance in picture and video files."""

import dataclasses
import io
import json
import warnings
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from stylewire.media import provenance
from stylewire.media.image_headers import ImageError
from stylewire.media.provenance import Provenance
from stylewire.media.video_headers import is_video, read_video_header

MAX_FILE_BYTES = 256 << 20
app = typer.Typer(add_completion=False)
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


class Inspection(NamedTuple):
    """Format, size and provenance of one file."""

    image_format: str
    width_px: int
    height_px: int
    origin: Provenance | None

    @property
    def synthetic(self) -> bool:
        """Whether the file is marked as synthetic; a file without a mark may be anything."""
        return self.origin is not None and self.origin.synthetic


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="PNG, JPEG, WebP, GIF, MP4 or WebM.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the provenance of pictures and videos.

    Exit code 0 if all files are marked as synthetic, else 1.
    """
    found = {file: _inspect(file) for file in files}
    if as_json:
        typer.echo(json.dumps([_record(file, inspection) for file, inspection in found.items()], indent=2))
    for file, inspection in found.items():
        if isinstance(inspection, ImageError):
            typer.echo(f"{file}: {inspection}", err=True)
        elif not as_json:
            typer.echo("\n".join(_lines(file, inspection)))
    if not all(isinstance(inspection, Inspection) and inspection.synthetic for inspection in found.values()):
        raise typer.Exit(1)


def _inspect(file: Path) -> Inspection | ImageError:
    """Inspect one file; an error is returned, so that the other files are shown."""
    try:
        content = _read_bytes(file)
        origin = provenance.read(content)
        return Inspection(*_read_size(content), origin)
    except OSError as err:
        return ImageError(err.strerror or str(err))
    except ImageError as err:
        return err


def _read_bytes(file: Path) -> bytes:
    with file.open("rb") as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ImageError(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB; it is not read")
    return content


def _read_size(content: bytes) -> tuple[str, int, int]:
    """Read format and size; of pictures Pillow does, since animations are fine here, and decodes nothing."""
    if is_video(content):
        return read_video_header(content)
    import PIL.Image  # noqa: PLC0415 - the other commands start faster without it

    try:
        with warnings.catch_warnings(action="ignore"), PIL.Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return image.format or "", *image.size
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as err:
        raise ImageError("the picture is damaged or truncated") from err


def _lines(file: Path, inspection: Inspection) -> list[str]:
    head = f"{file}: {inspection.image_format} {inspection.width_px} x {inspection.height_px} px"
    origin = inspection.origin
    if origin is None or not origin.source_type:
        return [f"{head}, not marked as synthetic or recorded"]
    kind = "synthetic" if inspection.synthetic else "not synthetic"
    facts = {"model": origin.model, "digest": origin.model_digest, "source": origin.source, "software": origin.software}
    term = origin.source_type.removeprefix(provenance.SOURCE_TYPES)
    return [f"{head}, {kind} ({term})", *(f"  {name:9}{text}" for name, text in facts.items() if text)]


def _record(file: Path, inspection: Inspection | ImageError) -> dict[str, object]:
    if isinstance(inspection, ImageError):
        return {"file": str(file), "error": str(inspection)}
    image_format, width_px, height_px, origin = inspection
    size = {"format": image_format, "width_px": width_px, "height_px": height_px, "synthetic": inspection.synthetic}
    return {"file": str(file), **size, **(dataclasses.asdict(origin) if origin else {})}
