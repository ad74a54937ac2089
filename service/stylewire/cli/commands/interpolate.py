"""``stylewire interpolate``: animations, videos and frames between pictures."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from stylewire.cli.calls import find_latents, provenance_of
from stylewire.cli.options import OUTPUT, Json, PatientServer, Rendering, Size, Zoom, examples, grouped
from stylewire.cli.output import Bar, Report, facts_of, progress
from stylewire.cli.parsing import VIDEO_SUFFIXES, AnimationPath, Points, parse_animation_path, parse_points
from stylewire.client.options import Container, Easing, Method, PathOptions
from stylewire.client.results import Frame
from stylewire.client.videos import AsyncVideo
from stylewire.files import replacing
from stylewire.media.sheets import save_animation

app = typer.Typer(add_completion=False)


@app.command(
    epilog=examples(
        "stylewire interpolate --seeds 1,2,3 --frames 90 --loop --psi 0.7 --out walk.gif",
        "stylewire interpolate --seeds 1-9 --frames 900 --method cubic --loop --fps 30 --out walk.mp4",
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
            help=".mp4 or .webm: a video. .gif, .webp or .png: an animation. A folder gets frames.",
            rich_help_panel=OUTPUT,
        ),
    ],
    fps: Annotated[float, typer.Option(min=0.1, max=120, help="Frames a second.", rich_help_panel=OUTPUT)] = 25,
    size: Size = None,
    zoom: Zoom = 1,
    rendering: Rendering,
    as_json: Json = False,
    server: PatientServer,
) -> None:
    """Interpolate between pictures: an animation or its frames."""
    report = Report(as_json=as_json)
    if out.suffix.lower() in VIDEO_SUFFIXES and zoom != 1:
        raise typer.BadParameter("--zoom is for animations; players enlarge videos, and --size makes them small")
    if not out.suffix:
        out.mkdir(parents=True, exist_ok=True)
    path = PathOptions(
        model=rendering.model, noise=rendering.noise, method=method, easing=easing, looped=loop, resolution_px=size
    )

    async def go() -> list[Frame]:
        async with server.async_client() as client:
            latents = await find_latents(client, points, model=rendering.model, psi=rendering.psi)
            with progress("interpolate", frames) as bar:
                if out.suffix.lower() in VIDEO_SUFFIXES:
                    container: Container = "webm" if out.suffix.lower() == ".webm" else "mp4"
                    video = client.interpolate_video(latents, frames, container=container, frame_rate=fps, **path)
                    await _save_video(video, out, bar, report)
                    return []
                return await _take(client.interpolate(latents, frames, **path), out, bar, report)

    made = asyncio.run(go())
    if made:
        images = [frame.image for frame in made]
        save_animation(images, out, frames_per_second=fps, zoom=zoom, origin=provenance_of(made))
        report.wrote(out, frames=len(made), model_digest=made[0].model_digest)


async def _save_video(video: AsyncVideo, out: Path, bar: Bar, report: Report) -> None:
    """Write a video while it arrives."""
    with replacing(out) as draft, draft.open("wb") as file:
        async for chunk in video:
            file.write(chunk)
            bar.reach(video.frames_made, "interpolate")
    report.wrote(out, frames=video.frames_made, mime_type=video.mime_type, model_digest=video.model_digest)


async def _take(stream: AsyncIterator[Frame], out: Path, bar: Bar, report: Report) -> list[Frame]:
    """Write frames to a folder while they arrive, or keep them for an animation."""
    kept = []
    async for frame in stream:
        if out.suffix:
            kept.append(frame)
        else:
            report.wrote(frame.save(out / f"frame{frame.index:04d}.png"), frame=frame.index, **facts_of(frame))
        bar.advance()
    return kept
