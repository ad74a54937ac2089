"""``stylewire generate``: pictures of seeds and of saved codes."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from stylewire import pb
from stylewire.cli.calls import provenance_of, read_codes
from stylewire.cli.files import check_targets, find_files
from stylewire.cli.options import OUTPUT, PICTURES, Json, Rendering, Server, Size, Zoom, examples, grouped
from stylewire.cli.output import Report, facts_of, progress
from stylewire.cli.parsing import (
    CODE_SUFFIX,
    Classes,
    Seeds,
    SheetPath,
    parse_classes,
    parse_seeds,
    parse_sheet_path,
)
from stylewire.client.inputs import seed, w_plus
from stylewire.client.options import FileFormat, OutputOptions
from stylewire.client.results import Result
from stylewire.media.sheets import in_rows, save_sheet, sheet

app = typer.Typer(add_completion=False)


_PATIENCE_SECONDS = 15.0
"""Long enough for a server that starts again; a person would not wait longer."""


class _Target(NamedTuple):
    """A picture to make.

    Attributes:
        stem: name of its file, without the suffix.
        latent: makes its latent when its turn has come; there may be a hundred thousand.
        facts: its source, for ``--json``.
        path: where it is written; None for a sheet only.
    """

    stem: str
    latent: Callable[[], pb.Latent]
    facts: dict[str, object]
    path: Path | None = None


@app.command(
    epilog=examples(
        "stylewire generate --seeds 0-63 --psi 0.7 --grid grid.png",
        "stylewire generate --seeds 0-9999 --out faces --format webp --skip-existing",
        "stylewire generate --code codes/me.npz --model cartoon --out drawn",
    )
)
@grouped
def generate(
    *,
    seeds: Annotated[
        Seeds | None, typer.Option(parser=parse_seeds, metavar="SEEDS", help="Such as 7, 0-63 or 0-63,100.")
    ] = None,
    codes: Annotated[
        list[Path] | None,
        typer.Option("--code", metavar="FILE", help="Saved codes (.npz), a folder or a pattern of them; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a file a picture.", rich_help_panel=OUTPUT)
    ] = None,
    grid: Annotated[
        SheetPath | None,
        typer.Option(parser=parse_sheet_path, metavar="FILE", help="Write one sheet of all.", rich_help_panel=OUTPUT),
    ] = None,
    columns: Annotated[
        int | None, typer.Option(min=1, help="Columns of the sheet; about square by default.", rich_help_panel=OUTPUT)
    ] = None,
    zoom: Zoom = 1,
    image_format: Annotated[
        FileFormat, typer.Option("--format", help="Form of the files.", rich_help_panel=OUTPUT)
    ] = "png",
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="For jpeg and webp.", rich_help_panel=OUTPUT)
    ] = None,
    size: Size = None,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Go on where a run ended: keep files of DIR.", rich_help_panel=OUTPUT),
    ] = False,
    classes: Annotated[
        Classes | None,
        typer.Option(
            "--class",
            parser=parse_classes,
            metavar="CLASSES",
            help="Of conditional models, such as 3 or 0-9: each seed with each class.",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    rendering: Rendering,
    as_json: Json = False,
    server: Server,
) -> None:
    """Make pictures of seeds, or of saved codes.

    The calls keep the server busy and come back in order; each file is whole or absent.
    """
    if grid is None and out is None:
        raise typer.BadParameter("nothing to write: set --grid FILE, --out DIR or both")
    if skip_existing and (grid or not out):
        raise typer.BadParameter("--skip-existing is for --out DIR without --grid, which shows all")
    targets = [*_seed_targets(seeds or [], classes, rendering.psi), *_code_targets(codes or [], rendering.psi)]
    if not targets:
        raise typer.BadParameter("nothing to make: set --seeds SEEDS, --code FILE or both")
    report = Report(as_json=as_json)
    if out:
        targets = _with_targets(targets, out, f".{image_format}", report, skip_existing=skip_existing)
    form = OutputOptions(format=image_format, quality=quality, resolution_px=size)
    results = asyncio.run(_draw(server, rendering, targets, form, report, keep=grid is not None))
    if grid is not None:
        several = classes and len(classes) > 1 and not codes
        lines = in_rows([each.image for each in results], columns or (len(seeds or []) if several else None))
        save_sheet(sheet(lines, zoom=zoom), grid, provenance_of(results))
        report.wrote(grid, pictures=len(results))


async def _draw(
    server: Server, rendering: Rendering, targets: Sequence[_Target], form: OutputOptions, report: Report, *, keep: bool
) -> list[Result]:
    """Make the pictures and write those that have a file; keeps them only if they are asked for."""
    kept, at = [], iter(targets)
    async with server.async_client() as client:
        latents = (target.latent() for target in targets)
        stream = client.generate_many(
            latents,
            model=rendering.model,
            noise=rendering.noise,
            format=form.get("format", "png"),
            quality=form.get("quality"),
            resolution_px=form.get("resolution_px"),
            patience_seconds=_PATIENCE_SECONDS,
        )
        with progress("generate", len(targets)) as bar:
            async for result in stream:
                target = next(at)
                if target.path:
                    report.wrote(result.save(target.path), **target.facts, **facts_of(result))
                if keep:
                    kept.append(result)
                bar.advance()
    return kept


def _with_targets(
    targets: Sequence[_Target], out: Path, suffix: str, report: Report, *, skip_existing: bool
) -> list[_Target]:
    """Set the path of each picture; leave out those that exist, with ``skip_existing``."""
    placed = [target._replace(path=out / f"{target.stem}{suffix}") for target in targets]
    check_targets([target.path for target in placed if target.path])
    out.mkdir(parents=True, exist_ok=True)
    if not skip_existing:
        return placed
    missing = [target for target in placed if not (target.path and target.path.exists())]
    report.note(f"{len(placed) - len(missing)} of {len(placed)} files are there")
    return missing


def _seed_targets(seeds: Sequence[int], classes: Classes | None, psi: float | None) -> list[_Target]:
    """List each seed with each class; the names of the files distinguish several classes."""
    if classes is None:
        return [_Target(f"seed{number:04d}", partial(seed, number, psi=psi), {"seed": number}) for number in seeds]
    ends = [f"-class{each:03d}" if len(classes) > 1 else "" for each in classes]
    return [
        _Target(
            f"seed{number:04d}{end}", partial(seed, number, psi=psi, class_index=each), {"seed": number, "class": each}
        )
        for each, end in zip(classes, ends, strict=True)
        for number in seeds
    ]


def _code_targets(paths: Sequence[Path], psi: float | None) -> list[_Target]:
    targets = []
    for path in find_files(paths, {CODE_SUFFIX}, "codes"):
        codes = read_codes(path)
        stems = [path.stem] if len(codes) == 1 else [f"{path.stem}-{index:04d}" for index in range(len(codes))]
        targets += [
            _Target(stem, partial(w_plus, code, psi=psi), {"code": str(path)})
            for stem, code in zip(stems, codes, strict=True)
        ]
    return targets
