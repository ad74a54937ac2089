"""``stylewire mix``: the matrix of style mixing."""

import asyncio
from typing import Annotated

import typer
from PIL.Image import Image

from stylewire import pb
from stylewire.cli.calls import find_latents, in_order, provenance_of
from stylewire.cli.options import OUTPUT, Json, Rendering, Server, Zoom, examples, grouped
from stylewire.cli.output import Report, progress
from stylewire.cli.parsing import Choices, Points, SheetPath, parse_layers, parse_points, parse_sheet_path
from stylewire.client.inputs import style
from stylewire.client.results import Result
from stylewire.media.sheets import save_sheet, sheet

app = typer.Typer(add_completion=False)


@app.command(
    epilog=examples(
        "stylewire mix --rows 0-3 --cols 10-15 --styles coarse --psi 0.7 --out mix.png",
        "stylewire mix --rows me.jpg,you.npz --cols 0-7 --styles 64px,128px --out mix.png",
    )
)
@grouped
def mix(
    *,
    rows: Annotated[
        Points,
        typer.Option(parser=parse_points, metavar="POINTS", help="Content: seeds such as 0-3, codes, pictures."),
    ],
    cols: Annotated[
        Points,
        typer.Option(parser=parse_points, metavar="POINTS", help="Styles: seeds, codes, pictures."),
    ],
    styles: Annotated[
        Choices,
        typer.Option(
            parser=parse_layers,
            metavar="LAYERS",
            help="Layers replaced: coarse, middle, fine, 16px or such as 0-3.",
        ),
    ],
    weight: Annotated[
        float | None, typer.Option(min=0, max=1, help="1 replaces the layers, as by default; less blends them.")
    ] = None,
    out: Annotated[
        SheetPath,
        typer.Option(parser=parse_sheet_path, metavar="FILE", help="Write the matrix here.", rich_help_panel=OUTPUT),
    ],
    zoom: Zoom = 1,
    rendering: Rendering,
    as_json: Json = False,
    server: Server,
) -> None:
    """Mix styles: a matrix of pictures, as in the papers.

    In each cell the picture on the left keeps all layers but those it takes from the picture on top. A point is a seed,
    a range of them, the file of a code (.npz), or a picture, which the model's encoder inverts.
    """
    heads, cells = asyncio.run(_draw(server, rendering, (rows, cols), styles, weight))
    matrix: list[list[Image | None]] = [[None, *(each.image for each in heads[len(rows) :])]]
    for index, head in enumerate(heads[: len(rows)]):
        line = cells[index * len(cols) : (index + 1) * len(cols)]
        matrix.append([head.image, *(cell.image for cell in line)])
    save_sheet(sheet(matrix, zoom=zoom), out, provenance_of([*heads, *cells]))
    names = {"rows": [str(each) for each in rows], "cols": [str(each) for each in cols]}
    Report(as_json=as_json).wrote(out, **names, model_digest=heads[0].model_digest)


async def _draw(
    server: Server, rendering: Rendering, points: tuple[Points, Points], choices: Choices, weight: float | None
) -> tuple[list[Result], list[Result]]:
    """Make the heads of rows and columns, and the cells row by row."""
    rows, cols = points
    async with server.async_client() as client:
        with progress("mix", len(rows) + len(cols) + len(rows) * len(cols)) as bar:
            latents = await find_latents(client, [*rows, *cols], model=rendering.model, psi=rendering.psi)
            heads = []
            async for head in client.generate_many(latents, model=rendering.model, noise=rendering.noise):
                heads.append(head)
                bar.advance()

            async def cell(place: tuple[pb.Latent, pb.Latent]) -> Result:
                content, source = place
                return await client.mix_styles(
                    content,
                    [style(source, each, weight) for each in choices],
                    model=rendering.model,
                    noise=rendering.noise,
                )

            cells = []
            places = [(row, col) for row in latents[: len(rows)] for col in latents[len(rows) :]]
            async for _, result in in_order(cell, places):
                cells.append(result)
                bar.advance()
    return heads, cells
