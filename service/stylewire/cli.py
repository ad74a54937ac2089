"""The ``stylewire`` command: generate, invert, mix, interpolate, inspect, models, serve, health, bench, version."""

import asyncio
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from typer.core import TyperGroup

from stylewire import cli_admin
from stylewire.calls import Easing, FileFormat, Method
from stylewire.cli_bench import bench
from stylewire.cli_inspect import inspect
from stylewire.cli_output import error_text, print_written, progress
from stylewire.cli_words import (
    AnimationPath,
    Choices,
    Seeds,
    SheetPath,
    parse_animation_path,
    parse_layers,
    parse_seeds,
    parse_sheet_path,
)
from stylewire.client import AsyncClient, Client
from stylewire.connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS
from stylewire.errors import StylewireError
from stylewire.files import replacing
from stylewire.health import main as health_main
from stylewire.provenance import Provenance, combine
from stylewire.results import Inversion, Picture, Result
from stylewire.sheets import in_rows, save_animation, save_sheet, sheet
from stylewire.sources import Alignment, LayerChoice, NoiseMode, seed, style

_CALL_SIZE = 16
"""Latents a call: small enough for a progress bar to move, large enough to fill a batch."""
_OPEN_CALLS = 16


class _Commands(TyperGroup):
    """Ends a command that failed with one sentence and exit code 1, in one place for all of them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # typer ends quietly: the reader of our output has gone
        except (StylewireError, OSError) as error:
            typer.echo(error_text(error), err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Pictures from StyleGAN2-family models, over gRPC.",
)

app.add_typer(cli_admin.app, name="models")

Address = Annotated[str, typer.Option(envvar="STYLEWIRE_ADDRESS", help="host:port of the server.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds to wait for an answer.")]
Model = Annotated[str, typer.Option(help="Name of the model; the server's default model when not given.")]
Psi = Annotated[float | None, typer.Option(help="Truncation: 1 keeps the code, 0 gives the mean. None by default.")]
ClassIndex = Annotated[int | None, typer.Option("--class", help="Class, for conditional models.")]
Noise = Annotated[NoiseMode, typer.Option(help="Pixel noise.")]
Zoom = Annotated[int, typer.Option(min=1, max=16, help="Enlarge pixels of the written picture, for looking at.")]
Quality = Annotated[int | None, typer.Option(min=1, max=100, help="For jpeg and webp.")]


@app.command()
def generate(
    *,
    seeds: Annotated[Seeds, typer.Option(parser=parse_seeds, metavar="SEEDS", help="Such as 7, 0-15 or 1,4,10-12.")],
    grid: Annotated[
        SheetPath | None, typer.Option(parser=parse_sheet_path, metavar="FILE", help="Write one sheet of all.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write one file a seed.")] = None,
    psi: Psi = None,
    model: Model = "",
    class_index: ClassIndex = None,
    image_format: Annotated[FileFormat, typer.Option("--format", help="Form of the files.")] = "png",
    quality: Quality = None,
    noise: Noise = "const",
    columns: Annotated[int | None, typer.Option(min=1, help="Columns of the sheet.")] = None,
    zoom: Zoom = 1,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
) -> None:
    """Make a picture of each seed."""
    if grid is None and out is None:
        raise typer.BadParameter("say where to write: --grid FILE, --out DIR or both")
    latents = [seed(number, psi=psi, class_index=class_index) for number in seeds]
    parts = [latents[start : start + _CALL_SIZE] for start in range(0, len(latents), _CALL_SIZE)]
    results: list[Result] = []
    with Client(address, timeout=timeout) as client:
        for part in progress(parts, "generate"):
            results += client.generate(part, model=model, noise=noise, format=image_format, quality=quality)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for number, result in zip(seeds, results, strict=True):
            print_written(result.save(out / f"seed{number:04d}.{image_format}"))
    if grid is not None:
        cells = in_rows([result.image for result in results], columns)
        save_sheet(sheet(cells, zoom=zoom), grid, _origin(results))
        print_written(grid)


@app.command()
def invert(
    *,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="PNG, JPEG or WebP pictures.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write NAME.npz (w: the code) and NAME.png (reconstruction).")
    ] = None,
    grid: Annotated[
        SheetPath | None,
        typer.Option(parser=parse_sheet_path, metavar="FILE", help="Write a sheet: inputs above reconstructions."),
    ] = None,
    model: Model = "",
    encoder: Annotated[str, typer.Option(help="Name of the encoder, when the model has several.")] = "",
    align: Annotated[
        Alignment | None, typer.Option(help="Crop the largest face first: of a person, or of a drawing.")
    ] = None,
    zoom: Zoom = 1,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
) -> None:
    """Find the codes of pictures."""
    with Client(address, timeout=timeout) as client:
        inversions = [
            client.invert(file, model=model, encoder=encoder, align=align or False, return_reconstruction=True)
            for file in progress(files, "invert")
        ]
    for file, inversion in zip(files, inversions, strict=True):
        distortion = "" if inversion.distortion is None else f", distortion {inversion.distortion:.4f}"
        found = f", the largest of {inversion.face.count} faces" if inversion.face and inversion.face.count > 1 else ""
        typer.echo(f"{file}: code {list(inversion.code.shape)}{distortion}{found}")
        if out is not None:
            _write_inversion(inversion, out / file.stem)
    if grid is not None:
        seen = [each.aligned.image if each.aligned else None for each in inversions]
        made = [each.reconstruction.image if each.reconstruction else None for each in inversions]
        shown = [picture for each in inversions for picture in (each.aligned, each.reconstruction)]
        save_sheet(sheet([seen, made], zoom=zoom), grid, _origin(shown))
        print_written(grid)


@app.command()
def mix(
    *,
    rows: Annotated[Seeds, typer.Option(parser=parse_seeds, metavar="SEEDS", help="Seeds that give the content.")],
    cols: Annotated[Seeds, typer.Option(parser=parse_seeds, metavar="SEEDS", help="Seeds that lend layers.")],
    styles: Annotated[
        Choices,
        typer.Option(parser=parse_layers, metavar="LAYERS", help="Layers lent: coarse, middle, fine or such as 0-3."),
    ],
    out: Annotated[SheetPath, typer.Option(parser=parse_sheet_path, metavar="FILE", help="Write the matrix here.")],
    psi: Psi = None,
    model: Model = "",
    zoom: Zoom = 1,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
) -> None:
    """Mix styles: a matrix with each row's layers replaced by each column's, as in the papers."""

    async def ask() -> tuple[list[Result], list[list[Result]]]:
        async with AsyncClient(address, timeout=timeout) as client:
            own = await client.generate([*rows, *cols], psi=psi, model=model)
            return own, await _mixtures(client, rows, cols, styles, psi=psi, model=model)

    own, mixtures = asyncio.run(ask())
    heads = [result.image for result in own]
    lines = [[head, *(m.image for m in line)] for head, line in zip(heads, mixtures, strict=False)]
    origin = _origin([*own, *(mixture for line in mixtures for mixture in line)])
    save_sheet(sheet([[None, *heads[len(rows) :]], *lines], zoom=zoom), out, origin)
    print_written(out)


@app.command()
def interpolate(
    *,
    seeds: Annotated[Seeds, typer.Option(parser=parse_seeds, metavar="SEEDS", help="Keyframes, such as 1,2,3.")],
    out: Annotated[
        AnimationPath,
        typer.Option(parser=parse_animation_path, metavar="PATH", help=".gif, .webp or .png; a folder gets frames."),
    ],
    frames: Annotated[int, typer.Option(min=1, help="Frames in all.")] = 60,
    method: Annotated[Method, typer.Option(help="The path between keyframes.")] = "lerp",
    easing: Annotated[Easing, typer.Option(help="How time runs between keyframes.")] = "linear",
    loop: Annotated[bool, typer.Option("--loop", help="Return to the first keyframe.")] = False,
    fps: Annotated[float, typer.Option(min=0.1, max=100, help="Frames a second of the animation.")] = 25,
    psi: Psi = None,
    model: Model = "",
    zoom: Zoom = 1,
    address: Address = DEFAULT_ADDRESS,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for the whole walk.")] = 600,
) -> None:
    """Walk through the pictures of seeds."""
    with Client(address, timeout=timeout) as client:
        stream = client.interpolate(
            seeds, frames, method=method, easing=easing, looped=loop, psi=psi, model=model, timeout=timeout
        )
        made = list(progress(stream, "interpolate", total=frames))
    if out.suffix:
        images = [frame.image for frame in made]
        save_animation(images, out, frames_per_second=fps, zoom=zoom, origin=_origin(made))
    else:
        out.mkdir(parents=True, exist_ok=True)
        for frame in made:
            frame.save(out / f"frame{frame.index:04d}.png")
    print_written(out)


app.command()(inspect)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def serve(ctx: typer.Context) -> None:
    """Run a server; `stylewire serve --help` lists its settings."""
    try:
        from stylewire.server.app import main as serve_main  # noqa: PLC0415 - an extra, and it imports a runtime
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "stylewire":
            raise
        typer.echo(f"the server needs {error.name}: pip install 'stylewire[server,cpu]'", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(serve_main(ctx.args))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def health(ctx: typer.Context) -> None:
    """Ask a server for its health, for probes; `stylewire-health` is the same and starts faster."""
    raise typer.Exit(health_main(ctx.args))


app.command()(bench)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("stylewire"))


def main() -> None:
    """Run the command line."""
    app(prog_name="stylewire")


async def _mixtures(
    client: AsyncClient, rows: Seeds, cols: Seeds, choices: Sequence[LayerChoice], *, psi: float | None, model: str
) -> list[list[Result]]:
    """Ask for all cells at once, so that the server can run them in batches."""
    gate = asyncio.Semaphore(_OPEN_CALLS)

    async def cell(row: int, col: int) -> Result:
        async with gate:
            return await client.mix_styles(row, [style(col, each) for each in choices], psi=psi, model=model)

    return [list(line) for line in await asyncio.gather(*(asyncio.gather(*(cell(r, c) for c in cols)) for r in rows))]


def _origin(pictures: Sequence[Picture | None]) -> Provenance | None:
    return combine([picture.provenance for picture in pictures if picture is not None])


def _write_inversion(inversion: Inversion, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    with replacing(Path(f"{stem}.npz")) as draft:
        np.savez(draft, w=inversion.code[np.newaxis])  # float32[1, L, D], as NVIDIA's projected_w.npz
    print_written(Path(f"{stem}.npz"))
    if inversion.reconstruction is not None:
        print_written(inversion.reconstruction.save(f"{stem}.png"))


if __name__ == "__main__":
    main()
