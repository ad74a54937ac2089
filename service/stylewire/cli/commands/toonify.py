"""``stylewire toonify``: pictures drawn by another model."""

import asyncio
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from stylewire.cli.calls import find_latents, provenance_of
from stylewire.cli.files import check_targets
from stylewire.cli.options import OUTPUT, PICTURES, Json, Noise, Server, Zoom, examples, grouped
from stylewire.cli.output import Report, facts_of
from stylewire.cli.parsing import Choices, Points, SheetPath, parse_layers, parse_points, parse_sheet_path
from stylewire.cli.photos import EncoderOptions, Photos, Refinement, find_photos, run_each, sheet_row
from stylewire.client import AsyncClient
from stylewire.client.inputs import Style, layers, style, w_plus
from stylewire.client.options import NoiseMode
from stylewire.client.results import Inversion, Result
from stylewire.media.sheets import save_sheet, sheet

app = typer.Typer(add_completion=False)


class _StyleChoice(NamedTuple):
    """The layers that every picture takes from one other latent."""

    point: int | Path
    choices: Choices
    weight: float | None

    @classmethod
    def of(cls, points: Points | None, choices: Choices | None, weight: float | None) -> "_StyleChoice | None":
        """Check the options of a style; None without them."""
        if points is None:
            if choices or weight is not None:
                raise typer.BadParameter("--layers and --weight are for a --style; add one")
            return None
        if len(points) != 1:
            raise typer.BadParameter(f"--style takes one seed, code or picture, not {len(points)}")
        return cls(points[0], choices or Choices([layers("fine")]), weight)


class _Renderer(NamedTuple):
    """The model and the options that draw pictures."""

    model: str
    reader: str
    psi: float | None
    noise: NoiseMode
    choice: _StyleChoice | None

    async def find_styles(self, client: AsyncClient) -> list[Style]:
        """Find the code whose layers every picture takes."""
        if self.choice is None:
            return []
        [latent] = await find_latents(client, [self.choice.point], model=self.reader, psi=self.psi)
        return [style(latent, each, self.choice.weight) for each in self.choice.choices]

    async def draw(self, client: AsyncClient, read: Inversion, styles: list[Style]) -> Result:
        """Draw the code of an inversion."""
        code = w_plus(read.code, psi=self.psi)
        if styles:
            return await client.mix_styles(code, styles, model=self.model, noise=self.noise)
        return (await client.generate(code, model=self.model, noise=self.noise))[0]


class _Drawing(NamedTuple):
    """A picture, read by one model and drawn by another."""

    read: Inversion
    drawn: Result


@app.command(
    epilog=examples(
        "stylewire toonify me.jpg --align face --from faces --to cartoon --out drawn",
        "stylewire toonify photos --from faces --to cartoon --psi 0.8 --style 7 --layers fine --grid sheet.png",
    )
)
@grouped
def toonify(
    *,
    photos: Photos,
    model: Annotated[str, typer.Option("--to", help="The model that draws, such as a fine-tuned one or a blend.")],
    reader: Annotated[
        str, typer.Option("--from", help="The model whose encoder reads; the default model if not set.")
    ] = "",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write NAME.png.", rich_help_panel=OUTPUT)] = None,
    grid: Annotated[
        SheetPath | None,
        typer.Option(
            parser=parse_sheet_path,
            metavar="FILE",
            help="Write a sheet: original, aligned, drawn; a line a picture.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    zoom: Zoom = 1,
    psi: Annotated[
        float | None, typer.Option(help="Truncation: less is more typical of the model.", rich_help_panel=PICTURES)
    ] = None,
    noise: Noise = "const",
    point: Annotated[
        Points | None,
        typer.Option(
            "--style",
            parser=parse_points,
            metavar="POINT",
            help="Take layers from a seed, a code or a picture: its colors, with fine layers.",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    choices: Annotated[
        Choices | None,
        typer.Option(
            "--layers",
            parser=parse_layers,
            metavar="LAYERS",
            help="Which: fine by default, or middle, 64px, such as 8-13.",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    weight: Annotated[
        float | None, typer.Option(min=0, max=1, help="How much; all by default.", rich_help_panel=PICTURES)
    ] = None,
    encoding: EncoderOptions,
    refine_steps: Refinement = 0,
    as_json: Json = False,
    server: Server,
) -> None:
    """Draw pictures anew with another model of the same latent space.

    One model finds the code of a picture; the other, fine-tuned from it or blended with it, draws that code. Blends are
    made by stylewire-export blend.
    """
    if out is None and grid is None:
        raise typer.BadParameter("nothing to write: set --out DIR, --grid FILE or both")
    files, report = find_photos(photos), Report(as_json=as_json)
    if out:
        check_targets([out / f"{file.stem}.png" for file in files], files)
        out.mkdir(parents=True, exist_ok=True)
    renderer = _Renderer(model, reader, psi, noise, _StyleChoice.of(point, choices, weight))

    async def draw() -> list[tuple[Path, _Drawing]]:
        kept = []
        async with server.async_client() as client:
            styles = await renderer.find_styles(client)

            async def convert(file: Path) -> _Drawing:
                align = encoding.align or False
                read = await client.invert(
                    file, model=reader, encoder=encoding.encoder, align=align, refine_steps=refine_steps
                )
                return _Drawing(read, await renderer.draw(client, read, styles))

            async for file, drawing in run_each("toonify", files, convert, report):
                if out:
                    path = drawing.drawn.save(out / f"{file.stem}.png")
                    report.wrote(path, picture=str(file), **facts_of(drawing.drawn))
                if grid:
                    kept.append((file, drawing))
        return kept

    drawings = asyncio.run(draw())
    if grid is not None and drawings:
        lines = [sheet_row(file, each.read.aligned, each.drawn) for file, each in drawings]
        shown = [picture for _, each in drawings for picture in (None, each.read.aligned, each.drawn)]
        save_sheet(sheet(lines, zoom=zoom), grid, provenance_of(shown))
        report.wrote(grid, pictures=len(drawings))
    report.end()
