"""``stylewire project``: the code of a picture by optimization."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stylewire.cli_output import print_written
from stylewire.client import Client
from stylewire.connection import DEFAULT_ADDRESS
from stylewire.files import replacing
from stylewire.projections import Projection, ProjectionProgress, Start


def project(
    *,
    file: Annotated[Path, typer.Argument(metavar="PHOTO", help="PNG, JPEG or WebP picture.")],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Write NAME.npz (w: the code, and noise), NAME.png and NAME-target.png."),
    ],
    steps: Annotated[int, typer.Option(min=1, help="More is closer, and takes longer.")] = 100,
    start: Annotated[
        Start | None, typer.Option(help="Where the code starts; at the encoder's answer if it can.")
    ] = None,
    optimize_noise: Annotated[
        bool, typer.Option("--optimize-noise", help="Also optimize the noise maps, which then belong to the code.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of what is random.")] = 0,
    model: Annotated[str, typer.Option(help="Name of the model; the server's default model when not given.")] = "",
    encoder: Annotated[str, typer.Option(help="Name of the encoder, when the model has several.")] = "",
    address: Annotated[
        str, typer.Option(envvar="STYLEWIRE_ADDRESS", help="host:port of the server.")
    ] = DEFAULT_ADDRESS,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for all steps.")] = 3600,
) -> None:
    """Find the code of a picture by optimization: slower than invert, and closer."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with (
        Client(address, timeout=timeout) as client,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        line = bar.add_task("project", total=steps)

        def show(progress: ProjectionProgress) -> None:
            bar.update(line, completed=progress.step, description=f"project, distortion {progress.distortion:.4f}")

        found = client.project(
            file,
            steps=steps,
            start=start,
            optimize_noise=optimize_noise,
            seed=seed,
            model=model,
            encoder=encoder,
            on_progress=show,
        )
    typer.echo(f"{file}: distortion {found.start_distortion:.4f} -> {found.distortion:.4f} in {steps} steps")
    _write(found, out / file.stem)


def _write(found: Projection, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"w": found.code[np.newaxis]}  # float32[1, L, D], as NVIDIA's projected_w.npz
    if found.noise is not None:
        arrays["noise"] = found.noise
    with replacing(Path(f"{stem}.npz")) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a flag for an array
    print_written(Path(f"{stem}.npz"))
    print_written(found.reconstruction.save(f"{stem}.png"))
    print_written(found.target.save(f"{stem}-target.png"))
