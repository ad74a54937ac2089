"""The command ``stylewire-export``: checkpoints to model directories, and their verification."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from stylewire.manifest import Manifest, ManifestError
from stylewire_export.bundle import WRITERS, BundleError, ExportJob, ExportReport, export_model
from stylewire_export.errors import CheckpointError
from stylewire_export.verify import FileReport, VerificationError, verify_directory

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Turn checkpoints into model directories.")


@app.command()
def model(
    *,
    generator: Annotated[Path, typer.Option(help="Checkpoint of a StyleGAN2 generator, or a pSp or e4e file.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    out: Annotated[Path, typer.Option(help="Directory of models; NAME is made in it.")],
    encoder: Annotated[list[Path] | None, typer.Option(help="pSp or e4e file; once per task.")] = None,
    formats: Annotated[str, typer.Option(help="Comma-separated graph formats.")] = ",".join(WRITERS),
    latent_space: Annotated[
        str | None,
        typer.Option(help="Id shared by models whose codes are interchangeable; default: from the mapping network."),
    ] = None,
    license_: Annotated[str, typer.Option("--license", help="SPDX id or text: a checkpoint carries none.")] = "",
    attribution: Annotated[str, typer.Option(help="Whom to name, as the license asks.")] = "",
    force: Annotated[bool, typer.Option(help="Replace an existing model.")] = False,
) -> None:
    """Export a generator and its encoders as a model directory, verified against PyTorch."""
    job = ExportJob(
        generator=generator,
        encoders=tuple(encoder or ()),
        name=name,
        out=out,
        formats=tuple(formats.split(",")),
        latent_space=latent_space,
        license=license_,
        attribution=attribution,
        force=force,
    )
    _print_export(export_model(job))


@app.command()
def verify(directory: Annotated[Path, typer.Argument(help="A model directory.")]) -> None:
    """Check a model directory: digests, and every graph against its check vectors. Needs no checkpoint."""
    reports = verify_directory(directory)
    _print_checks(reports, Manifest.read(directory))
    if any(report.problems for report in reports):
        raise typer.Exit(1)


def main() -> None:
    """Run the command; an expected failure is one sentence and exit code 1."""
    try:
        app()
    except (BundleError, CheckpointError, ManifestError, VerificationError, OSError) as err:
        print(f"stylewire-export: {err}", file=sys.stderr)
        sys.exit(1)


def _print_export(report: ExportReport) -> None:
    manifest = report.manifest
    print(f"{report.directory}: {manifest.architecture}, {manifest.resolution_px} px, {manifest.layer_count} rows")
    print(f"latent space {manifest.latent_space}; {report.seconds:.1f} s")
    _print_checks([FileReport(check=check, problems=()) for check in manifest.checks], manifest)
    for note in report.notes:
        print(f"note: {note}")


def _print_checks(reports: list[FileReport], manifest: Manifest) -> None:
    print(f"{'file':22}{'MB':>8}  {'largest error (of the range; pixels in levels)':48}verdict")
    for report in reports:
        size_mb = manifest.files[report.check.file].size_bytes / 1e6
        errors = ", ".join(f"{name} {error:.1e}" for name, error in report.check.errors.items())
        print(f"{report.check.file:22}{size_mb:8.1f}  {errors:48}{'; '.join(report.problems) or 'ok'}")
