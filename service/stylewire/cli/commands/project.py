"""``stylewire project``: codes of pictures by optimization."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from stylewire.cli.calls import provenance_of
from stylewire.cli.files import check_targets
from stylewire.cli.options import OUTPUT, Json, Model, PatientServer, Zoom, examples, grouped
from stylewire.cli.output import Report, progress
from stylewire.cli.parsing import SheetPath, parse_sheet_path
from stylewire.cli.photos import PICTURE_ERRORS, EncoderOptions, Photos, find_photos, sheet_row
from stylewire.client import AsyncClient
from stylewire.client.options import ProjectOptions, Start
from stylewire.client.projections import Projection, ProjectionProgress
from stylewire.files import replacing
from stylewire.media.sheets import save_sheet, sheet

app = typer.Typer(add_completion=False)


@app.command(
    epilog=examples(
        "stylewire project me.jpg --align face --steps 200 --out codes",
        "stylewire project photos --start mean --optimize-noise --out codes --grid sheet.png --json",
    )
)
@grouped
def project(
    *,
    photos: Photos,
    steps: Annotated[int, typer.Option(min=1, help="More is closer, and takes longer.")] = 100,
    start: Annotated[
        Start | None, typer.Option(help="Where the code starts; at the encoder's answer if there is one.")
    ] = None,
    optimize_noise: Annotated[
        bool, typer.Option("--optimize-noise", help="Also optimize the noise maps, which then belong to the code.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of what is random.")] = 0,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Write NAME.npz (w: the code, and noise), NAME.png and NAME-target.png.",
            rich_help_panel=OUTPUT,
        ),
    ],
    grid: Annotated[
        SheetPath | None,
        typer.Option(
            parser=parse_sheet_path,
            metavar="FILE",
            help="Write a sheet: original, target, reconstruction; a line a picture.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    zoom: Zoom = 1,
    model: Model = "",
    encoding: EncoderOptions,
    as_json: Json = False,
    server: PatientServer,
) -> None:
    """Find codes of pictures by optimization, closer than invert.

    Pictures are done one after the other, since a server does few at once and other calls go first. With --json each
    step is an object, too. Ctrl-C ends the work on the server.
    """
    files, report = find_photos(photos), Report(as_json=as_json)
    ends = (".npz", ".png", "-target.png")
    check_targets([out / f"{file.stem}{end}" for file in files for end in ends], files)
    out.mkdir(parents=True, exist_ok=True)

    options = ProjectOptions(
        steps=steps, start=start, optimize_noise=optimize_noise, seed=seed, model=model, encoder=encoding.encoder
    )

    async def find() -> list[tuple[Path, Projection]]:
        kept = []
        async with server.async_client() as client:
            for file in files:
                try:
                    found = await _project(client, file, options, encoding, report)
                except PICTURE_ERRORS as error:
                    report.failed(file, error)
                    continue
                _report(report, file, found, steps)
                _write(report, found, out / file.stem)
                if grid:
                    kept.append((file, found))
        return kept

    projections = asyncio.run(find())
    if grid is not None and projections:
        lines = [sheet_row(file, each.target, each.reconstruction) for file, each in projections]
        shown = [picture for _, each in projections for picture in (None, each.target, each.reconstruction)]
        save_sheet(sheet(lines, zoom=zoom), grid, provenance_of(shown))
        report.wrote(grid, pictures=len(projections))
    report.end()


async def _project(
    client: AsyncClient, file: Path, options: ProjectOptions, encoding: EncoderOptions, report: Report
) -> Projection:
    if encoding.align == "face":
        options = {**options, "align": True, "landmarks": await _find_landmarks(client, file, options, encoding)}
    elif encoding.align:
        raise typer.BadParameter(f"--align {encoding.align}: projections know faces of persons only; crop it before")
    with progress(f"project {file.name}", options.get("steps")) as bar:

        def show(now: ProjectionProgress) -> None:
            bar.reach(now.step, f"project {file.name}, distortion {now.distortion:.4f}")
            report.step(picture=str(file), step=now.step, loss=now.loss, distortion=now.distortion)

        return await client.project(file, on_progress=show, **options)


async def _find_landmarks(
    client: AsyncClient, file: Path, options: ProjectOptions, encoding: EncoderOptions
) -> Sequence[tuple[float, float]] | None:
    """Find the landmarks of the face with Invert: Project needs them."""
    model = options.get("model", "")
    found = await client.invert(file, model=model, encoder=encoding.encoder, align=encoding.align or False)
    return found.face.landmarks if found.face else None


def _report(report: Report, file: Path, found: Projection, steps: int) -> None:
    report.line(
        f"{file}: distortion {found.start_distortion:.4f} -> {found.distortion:.4f} in {steps} steps",
        picture=str(file),
        steps=steps,
        start_distortion=found.start_distortion,
        distortion=found.distortion,
        model_digest=found.model_digest,
        **found.timing._asdict(),
    )


def _write(report: Report, found: Projection, stem: Path) -> None:
    arrays = {"w": found.code[np.newaxis]}  # float32[1, L, D], as NVIDIA's projected_w.npz
    if found.noise is not None:
        arrays["noise"] = found.noise
    with replacing(Path(f"{stem}.npz")) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a flag for an array
    report.wrote(Path(f"{stem}.npz"))
    report.wrote(found.reconstruction.save(f"{stem}.png"))
    report.wrote(found.target.save(f"{stem}-target.png"))
