"""``stylewire inspect``: what picture and video files say about their origin."""

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


class Finding(NamedTuple):
    """What one file is, and what it says."""

    image_format: str
    width_px: int
    height_px: int
    origin: Provenance | None

    @property
    def synthetic(self) -> bool:
        """Whether the file says that it is synthetic; a file that is silent may be anything."""
        return self.origin is not None and self.origin.synthetic


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="PNG, JPEG, WebP, GIF, MP4 or WebM.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where pictures and videos come from.

    Exit code 0 if all files say that they are synthetic, else 1.
    """
    found = {file: _look(file) for file in files}
    if as_json:
        typer.echo(json.dumps([_record(file, finding) for file, finding in found.items()], indent=2))
    for file, finding in found.items():
        if isinstance(finding, ImageError):
            typer.echo(f"{file}: {finding}", err=True)
        elif not as_json:
            typer.echo("\n".join(_lines(file, finding)))
    if not all(isinstance(finding, Finding) and finding.synthetic for finding in found.values()):
        raise typer.Exit(1)


def _look(file: Path) -> Finding | ImageError:
    """Read one file; one that cannot be read does not keep the others from being shown."""
    try:
        content = _read_bytes(file)
        origin = provenance.read(content)
        return Finding(*_read_size(content), origin)
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


def _lines(file: Path, finding: Finding) -> list[str]:
    head = f"{file}: {finding.image_format} {finding.width_px} x {finding.height_px} px"
    origin = finding.origin
    if origin is None or not origin.source_type:
        return [f"{head}, does not say whether it is synthetic"]
    said = "synthetic" if finding.synthetic else "not synthetic"
    told = {"model": origin.model, "digest": origin.model_digest, "source": origin.source, "software": origin.software}
    term = origin.source_type.removeprefix(provenance.SOURCE_TYPES)
    return [f"{head}, {said} ({term})", *(f"  {name:9}{text}" for name, text in told.items() if text)]


def _record(file: Path, finding: Finding | ImageError) -> dict[str, object]:
    if isinstance(finding, ImageError):
        return {"file": str(file), "error": str(finding)}
    image_format, width_px, height_px, origin = finding
    size = {"format": image_format, "width_px": width_px, "height_px": height_px, "synthetic": finding.synthetic}
    return {"file": str(file), **size, **(dataclasses.asdict(origin) if origin else {})}
