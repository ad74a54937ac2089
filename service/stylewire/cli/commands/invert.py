"""``stylewire invert``: codes of pictures."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from stylewire.cli.calls import provenance_of
from stylewire.cli.files import check_targets
from stylewire.cli.options import OUTPUT, Json, Model, Server, Zoom, examples, grouped
from stylewire.cli.output import Report, facts_of
from stylewire.cli.parsing import SheetPath, parse_sheet_path
from stylewire.cli.photos import EncoderOptions, Photos, Refinement, find_photos, run_each, sheet_row
from stylewire.client.results import Inversion
from stylewire.codes import save_code
from stylewire.media.sheets import save_sheet, sheet

app = typer.Typer(add_completion=False)


@app.command(
    epilog=examples(
        "stylewire invert me.jpg --align face --out codes --grid sheet.png",
        "stylewire invert photos 'more/**/*.jpg' --out codes",
    )
)
@grouped
def invert(
    *,
    photos: Photos,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write NAME.npz (w: the code) and NAME.png (reconstruction).", rich_help_panel=OUTPUT
        ),
    ] = None,
    grid: Annotated[
        SheetPath | None,
        typer.Option(
            parser=parse_sheet_path,
            metavar="FILE",
            help="Write a sheet: original, aligned, reconstruction; a line a picture.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    zoom: Zoom = 1,
    model: Model = "",
    encoding: EncoderOptions,
    refine_steps: Refinement = 0,
    as_json: Json = False,
    server: Server,
) -> None:
    """Find the codes of pictures.

    A code is written as NVIDIA's projector writes it, so other tools read it, and so do generate --code, mix and
    interpolate. A picture that cannot be inverted is named; the others go on, and the exit code is 1.
    """
    files, report = find_photos(photos), Report(as_json=as_json)
    if out:
        check_targets([out / f"{file.stem}{suffix}" for file in files for suffix in (".npz", ".png")], files)
        out.mkdir(parents=True, exist_ok=True)

    async def find() -> list[tuple[Path, Inversion]]:
        kept = []
        async with server.async_client() as client:

            async def find_code(file: Path) -> Inversion:
                return await client.invert(
                    file,
                    model=model,
                    encoder=encoding.encoder,
                    align=encoding.align or False,
                    refine_steps=refine_steps,
                    return_reconstruction=True,
                )

            async for file, inversion in run_each("invert", files, find_code, report):
                _report(report, file, inversion)
                if out:
                    _write(report, inversion, out / file.stem)
                if grid:
                    kept.append((file, inversion))
        return kept

    inversions = asyncio.run(find())
    if grid is not None and inversions:
        save_inversions(inversions, grid, zoom=zoom)
        report.wrote(grid, pictures=len(inversions))
    report.end()


def _report(report: Report, file: Path, inversion: Inversion) -> None:
    distortion = "" if inversion.distortion is None else f", distortion {inversion.distortion:.4f}"
    count = inversion.face.count if inversion.face else 0
    faces = f", the largest of {count} faces" if count > 1 else ""
    report.line(
        f"{file}: code {list(inversion.code.shape)}{distortion}{faces}",
        picture=str(file),
        shape=inversion.code.shape,
        distortion=inversion.distortion,
        faces=count or None,
        **facts_of(inversion),
    )


def _write(report: Report, inversion: Inversion, stem: Path) -> None:
    report.wrote(save_code(f"{stem}.npz", inversion.code))
    if inversion.reconstruction is not None:
        report.wrote(inversion.reconstruction.save(f"{stem}.png"))


def save_inversions(inversions: list[tuple[Path, Inversion]], path: Path, *, zoom: int) -> None:
    """Write the sheet of originals, what the encoder saw, and reconstructions."""
    drawn = [(file, each.aligned, each.reconstruction) for file, each in inversions if each.reconstruction]
    lines = [sheet_row(file, aligned, made) for file, aligned, made in drawn]
    shown = [picture for _, aligned, made in drawn for picture in (None, aligned, made)]
    save_sheet(sheet(lines, zoom=zoom), path, provenance_of(shown))
