"""``stylewire interpolate``: walks through pictures."""

import asyncio
from typing import Annotated

import typer

from stylewire.calls import Easing, Method
from stylewire.cli_calls import find_latents, origin_of
from stylewire.cli_options import OUTPUT, Json, Look, PatientServer, Zoom, examples, grouped
from stylewire.cli_output import Report, facts_of, progress
from stylewire.cli_words import AnimationPath, Points, parse_animation_path, parse_points
from stylewire.results import Frame
from stylewire.sheets import save_animation

app = typer.Typer(add_completion=False)


@app.command(
    epilog=examples(
        "stylewire interpolate --seeds 1,2,3 --frames 90 --loop --psi 0.7 --out walk.gif",
        "stylewire interpolate --points me.jpg,7,you.npz --easing ease_in_out --out frames",
    )
)
@grouped
def interpolate(
    *,
    points: Annotated[
        Points,
        typer.Option(
            "--seeds",
            "--points",
            parser=parse_points,
            metavar="POINTS",
            help="Keyframes: seeds such as 1,2,3, files of codes, pictures.",
        ),
    ],
    frames: Annotated[int, typer.Option(min=1, help="Frames in all.")] = 60,
    method: Annotated[Method, typer.Option(help="The path: straight in w+, great circles in z, or a spline.")] = "lerp",
    easing: Annotated[Easing, typer.Option(help="How time runs between keyframes.")] = "linear",
    loop: Annotated[bool, typer.Option("--loop", help="Return to the first keyframe, without a jump.")] = False,
    out: Annotated[
        AnimationPath,
        typer.Option(
            parser=parse_animation_path,
            metavar="PATH",
            help=".gif, .webp or .png; a folder gets frames.",
            rich_help_panel=OUTPUT,
        ),
    ],
    fps: Annotated[
        float, typer.Option(min=0.1, max=100, help="Frames a second of the animation.", rich_help_panel=OUTPUT)
    ] = 25,
    zoom: Zoom = 1,
    look: Look,
    as_json: Json = False,
    server: PatientServer,
) -> None:
    """Walk from picture to picture: an animation or its frames."""
    made: list[Frame] = []
    report = Report(as_json=as_json)
    if not out.suffix:
        out.mkdir(parents=True, exist_ok=True)

    def take(frame: Frame) -> None:
        if out.suffix:
            made.append(frame)
        else:
            report.wrote(frame.save(out / f"frame{frame.index:04d}.png"), frame=frame.index, **facts_of(frame))

    async def walk() -> None:
        async with server.async_client() as client:
            latents = await find_latents(client, points, model=look.model, psi=look.psi)
            stream = client.interpolate(
                latents, frames, method=method, easing=easing, looped=loop, model=look.model, noise=look.noise
            )
            with progress("interpolate", frames) as advance:
                async for frame in stream:
                    take(frame)
                    advance()

    asyncio.run(walk())
    if out.suffix:
        images = [frame.image for frame in made]
        save_animation(images, out, frames_per_second=fps, zoom=zoom, origin=origin_of(made))
        report.wrote(out, frames=len(made), model_digest=made[0].model_digest)
