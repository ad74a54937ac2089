"""The command ``stylewire-export``: checkpoints to model directories, and their verification."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from stylewire.manifest import Manifest, ManifestError
from stylewire_export.blend import BlendError, BlendRule
from stylewire_export.bundle import Blending, ExportJob, ExportReport, export_model
from stylewire_export.errors import BundleError, CheckpointError, VerificationError
from stylewire_export.formats import DEFAULT_FORMATS, FORMATS
from stylewire_export.onnx_import.adapter import RANGES
from stylewire_export.onnx_import.importer import ImportJob, import_onnx
from stylewire_export.triton.config import Device, Precision, Serving, Variant
from stylewire_export.triton.repository import RepositoryReport, find_models, write_repository
from stylewire_export.verify import FileReport, verify_directory

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Turn checkpoints into model directories.")


Name = Annotated[str, typer.Option(help="Name of the model.")]
Out = Annotated[Path, typer.Option(help="Directory of models; NAME is made in it.")]
Encoders = Annotated[list[Path] | None, typer.Option(help="pSp or e4e file; once per task.")]
Formats = Annotated[str, typer.Option(help=f"Of the graph files, with commas: {', '.join(FORMATS)}.")]
LatentSpace = Annotated[
    str | None,
    typer.Option(help="Id shared by models whose codes are interchangeable; default: from the mapping network."),
]
License = Annotated[str, typer.Option("--license", help="SPDX id or text: a checkpoint carries none.")]
Attribution = Annotated[str, typer.Option(help="Whom to name, as the license requires.")]
LabelNames = Annotated[
    str, typer.Option(help="Names of the labels by index, separated by commas; or @FILE with one a line.")
]
Force = Annotated[bool, typer.Option(help="Replace an existing model.")]
USUAL_FORMATS = ",".join(DEFAULT_FORMATS)


@app.command()
def model(
    *,
    generator: Annotated[Path, typer.Option(help="Checkpoint of a generator, or a pSp or e4e file.")],
    name: Name,
    out: Out,
    encoder: Encoders = None,
    resolution: Annotated[int | None, typer.Option(help="In px, where a file holds several (StyleGAN1).")] = None,
    z_dim: Annotated[
        int | None, typer.Option(help="How many inputs of a generator without styles are z; others are the label.")
    ] = None,
    label_names: LabelNames = "",
    formats: Formats = USUAL_FORMATS,
    latent_space: LatentSpace = None,
    license_: License = "",
    attribution: Attribution = "",
    force: Force = False,
) -> None:
    """Export a generator and its encoders as a model directory, verified against PyTorch."""
    job = ExportJob(
        generator=generator,
        encoders=tuple(encoder or ()),
        resolution_px=resolution,
        z_dim=z_dim,
        label_names=_label_names(label_names),
        name=name,
        out=out,
        formats=tuple(formats.split(",")),
        latent_space=latent_space,
        license=license_,
        attribution=attribution,
        force=force,
    )
    _print_export(export_model(job))


@app.command("blend")
def blend_generators(
    base: Annotated[Path, typer.Argument(help="Generator of the low resolutions; its latent space is kept.")],
    finetuned: Annotated[Path, typer.Argument(help="Generator of the high resolutions, of the same lineage.")],
    *,
    resolution: Annotated[int, typer.Option(help="Where the change lies, in px.")],
    level: Annotated[int, typer.Option(help="1 changes after the next up-sampling convolution, 0 before it.")] = 0,
    fade: Annotated[float | None, typer.Option(help="Width of a gradual change, in layers, such as 1.")] = None,
    whole_blocks: Annotated[bool, typer.Option(help="Take all of the blocks from the resolution on.")] = False,
    name: Name,
    out: Out,
    encoder: Encoders = None,
    formats: Formats = USUAL_FORMATS,
    latent_space: LatentSpace = None,
    license_: License = "",
    attribution: Attribution = "",
    force: Force = False,
) -> None:
    """Export two generators as one: layers of BASE at low resolutions, of FINETUNED at high ones."""
    rule = BlendRule(resolution_px=resolution, level=level, fade_width=fade, whole_blocks=whole_blocks)
    job = ExportJob(
        generator=base,
        blending=Blending(finetuned=finetuned, rule=rule),
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


@app.command("import-onnx")
def import_ready_onnx(
    file: Annotated[Path, typer.Argument(help="ONNX model from z, or z and a label, to an image.")],
    *,
    name: Name,
    out: Out,
    z_dim: Annotated[int | None, typer.Option(help="Numbers of z, where the file leaves it open.")] = None,
    label_dim: Annotated[int | None, typer.Option(help="Numbers of the label, where the file leaves it open.")] = None,
    value_range: Annotated[str, typer.Option(help=f"What the model draws in: {' or '.join(RANGES)}.")] = "-1,1",
    label_names: LabelNames = "",
    latent_space: LatentSpace = None,
    license_: License = "",
    attribution: Attribution = "",
    force: Force = False,
) -> None:
    """Make a model directory of a ready ONNX file, checked by running it at several batch sizes."""
    job = ImportJob(
        file=file,
        name=name,
        out=out,
        z_dim=z_dim,
        label_dim=label_dim,
        value_range=value_range,
        label_names=_label_names(label_names),
        latent_space=latent_space,
        license=license_,
        attribution=attribution,
        force=force,
    )
    _print_export(import_onnx(job))


@app.command("triton-repository")
def triton_repository(
    models: Annotated[Path, typer.Argument(help="Directory of models, or one of them.")],
    *,
    out: Annotated[Path, typer.Option(help="The repository, which is made.")],
    variant: Annotated[Variant, typer.Option(help="What runs the graphs in Triton.")] = "onnxruntime",
    device: Annotated[Device, typer.Option(help="gpu: every one that Triton has.")] = "cpu",
    precision: Annotated[Precision, typer.Option(help="fast: half precision on GPUs.")] = "parity",
    instances: Annotated[int, typer.Option(min=1, max=64, help="Of each graph, on each device.")] = 1,
    max_batch_size: Annotated[int, typer.Option(min=1, max=1024, help="The most items in a batch.")] = 8,
    queue_delay_us: Annotated[int, typer.Option(min=0, help="How long a batch may wait for more requests.")] = 0,
    max_queue_size: Annotated[int, typer.Option(min=0, help="Requests that wait for a graph; 0: no limit.")] = 64,
    timeout_us: Annotated[
        int, typer.Option(min=0, help="How long a request without a timeout of its own may wait; 0: without end.")
    ] = 0,
    threads: Annotated[int, typer.Option(min=0, max=1024, help="That an instance computes with on CPUs; 0: all.")] = 0,
    tensorrt: Annotated[bool, typer.Option(help="Let onnxruntime hand the graphs to TensorRT, on GPUs.")] = False,
    engine_cache: Annotated[
        str, typer.Option(help="Folder, as Triton sees it, where TensorRT keeps engines: they take minutes to build.")
    ] = "",
    force: Annotated[bool, typer.Option(help="Replace an existing repository.")] = False,
) -> None:
    """Write a Triton model repository: every graph of the models, and an ensemble from z to pixels of each."""
    serving = Serving(
        variant=variant,
        device=device,
        precision=precision,
        instances=instances,
        max_batch_size=max_batch_size,
        queue_delay_us=queue_delay_us,
        max_queue_size=max_queue_size,
        timeout_us=timeout_us,
        threads=threads,
        tensorrt=tensorrt,
        engine_cache=engine_cache,
    )
    _print_repository(write_repository(find_models(models), out, serving, force=force), serving)


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
    except (BlendError, BundleError, CheckpointError, ManifestError, VerificationError, OSError) as err:
        print(f"stylewire-export: {err}", file=sys.stderr)
        sys.exit(1)


def _label_names(text: str) -> tuple[str, ...]:
    """Parse names separated by commas, or @FILE with one a line."""
    if text.startswith("@"):
        return tuple(line.strip() for line in Path(text[1:]).read_text(encoding="utf-8").splitlines() if line.strip())
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _print_export(report: ExportReport) -> None:
    manifest = report.manifest
    rows = f"{manifest.layer_count} rows" if manifest.layer_count else "no styles"
    print(f"{report.directory}: {manifest.architecture}, {manifest.resolution_px} px, {rows}")
    print(f"latent space {manifest.latent_space}; {report.seconds:.1f} s")
    _print_checks([FileReport(check=check, problems=()) for check in manifest.checks], manifest)
    for note in report.notes:
        print(f"note: {note}")


def _print_repository(report: RepositoryReport, serving: Serving) -> None:
    print(f"{report.directory}: {', '.join(report.models)}")
    needs = {
        "onnxruntime": "the onnxruntime backend" + (", built with TensorRT" if serving.tensorrt else ""),
        "libtorch": "the PyTorch backend",
        "python": "the Python backend, whose Python finds numpy and onnxruntime"
        + ("-gpu" if serving.device == "gpu" else ""),
    }
    print(f"serve it: tritonserver --model-repository={report.directory}, with {needs[serving.variant]}")


def _print_checks(reports: list[FileReport], manifest: Manifest) -> None:
    print(f"{'file':22}{'MB':>8}  {'largest error (of the range; pixels in levels)':48}verdict")
    for report in reports:
        size_mb = manifest.files[report.check.file].size_bytes / 1e6
        errors = ", ".join(f"{name} {error:.1e}" for name, error in report.check.errors.items())
        if report.check.psnr_db is not None:
            errors += f"; {report.check.psnr_db:.0f} dB"
        print(f"{report.check.file:22}{size_mb:8.1f}  {errors:48}{'; '.join(report.problems) or 'ok'}")
