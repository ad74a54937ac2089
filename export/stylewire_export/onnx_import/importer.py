"""A ready ONNX file as a model directory: check -> find z, label and image -> wrap -> compare with itself -> write."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from stylewire.latents import Array
from stylewire.manifest import CHECK_FILE, ArtifactCheck, Manifest, SourceInfo, file_info
from stylewire_export.bundle import MAX_IMAGE_CHANNELS, ExportReport
from stylewire_export.checkpoints.shapes import MAX_RESOLUTION_PX
from stylewire_export.errors import BundleError, CheckpointError, VerificationError
from stylewire_export.exportable import check_label_names
from stylewire_export.graphs import latent_examples
from stylewire_export.onnx_import.adapter import RANGES, ImageLayout, adapt, to_image, to_pixels
from stylewire_export.onnx_import.file import read_onnx
from stylewire_export.onnx_import.signature import Signature, find_signature
from stylewire_export.runners import AnyArray, Run, open_foreign_onnx
from stylewire_export.staging import check_target, staging
from stylewire_export.verify import BATCH_SIZES, Case, check_graph_file, save_check_vectors

GRAPH = "generator"
MAX_MAGNITUDE = 2.0  # of an image that should lie in about [-1, 1]

_CHECK_SIZE = 2  # items in the check vectors
_NO_REFERENCE = "the check vectors come from the ONNX file itself, as onnxruntime runs it: there is no other reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportJob:
    """What to import and where to.

    Attributes:
        file: an ONNX model z (, label) -> image.
        out: directory of model directories.
        z_dim: Z, where the file leaves it open: which of two inputs is z, or how many numbers of a single one.
        label_dim: size of the label, where the file leaves it open.
        value_range: in which the model draws, a key of ``RANGES``.
        label_names: names of the labels by index; empty if nobody names them.
        latent_space: id that allows codes to cross between models; None derives it from the file.
        force: replace an existing model directory.
    """

    file: Path
    name: str
    out: Path
    z_dim: int | None = None
    label_dim: int | None = None
    value_range: str = "-1,1"
    label_names: tuple[str, ...] = ()
    latent_space: str | None = None
    license: str = ""
    attribution: str = ""
    force: bool = False


def import_onnx(job: ImportJob) -> ExportReport:
    """Import an ONNX file as a model directory; if anything fails, nothing is left behind.

    Raises:
        BundleError: the name, the range or the label names do not fit.
        CheckpointError: the file is no self-contained function z (, label) -> image.
        VerificationError: onnxruntime refuses it, or an image depends on the rest of its batch.
    """
    started = time.monotonic()
    _check_job(job)
    try:
        manifest = _import(job)
    except (CheckpointError, VerificationError) as err:
        raise type(err)(f"{job.file.name}: {err}") from err
    except UnicodeDecodeError as err:  # protobuf decodes a name when it is read first
        raise CheckpointError(f"{job.file.name}: a damaged ONNX model: a name in it is no text") from err
    return ExportReport(
        directory=job.out / job.name, manifest=manifest, seconds=time.monotonic() - started, notes=manifest.notes
    )


def _import(job: ImportJob) -> Manifest:
    model = read_onnx(job.file)
    signature = find_signature(model, job.z_dim, job.label_dim)
    check_label_names(job.label_names, signature.label_dim)
    layout, cases = _draw_cases(open_foreign_onnx(model.SerializeToString()), signature, job.value_range)
    with staging(job.out, job.name) as directory:
        path = directory / f"{GRAPH}.onnx"
        onnx.save(adapt(model, signature, layout), path)
        check = _check(path, cases, signature)
        save_check_vectors({GRAPH: cases[BATCH_SIZES.index(_CHECK_SIZE)]}, directory / CHECK_FILE)
        manifest = _manifest(job, signature, layout).model_copy(
            update={
                "notes": tuple(_remarks(signature, layout, cases)),
                "checks": (check,),
                "files": {path.name: file_info(path) for path in sorted(directory.iterdir())},
            }
        )
        manifest.write(directory)
    return manifest


def _check_job(job: ImportJob) -> None:
    check_target(job.out, job.name, force=job.force)
    if job.value_range not in RANGES:
        raise BundleError(f"unknown range {job.value_range!r}: use {', '.join(RANGES)}")


def _draw_cases(run: Run, signature: Signature, value_range: str) -> tuple[ImageLayout, list[Case]]:
    """Draw the examples of all batch sizes with the original."""
    examples = [latent_examples(size, signature.z_dim, signature.label_dim) for size in BATCH_SIZES]
    drawn = [_draw(run, signature, values) for values in examples]
    layout = _layout(drawn[-1], value_range)
    images = [to_image(array, layout) for array in drawn]
    outputs: list[dict[str, AnyArray]] = [{"pixels": to_pixels(image), "image": image} for image in images]
    return layout, [Case(*pair) for pair in zip(examples, outputs, strict=True)]


def _draw(run: Run, signature: Signature, values: Mapping[str, Array]) -> AnyArray:
    """Run the original in batches of its own size, one by one where that is dynamic."""
    size, count = signature.fixed_batch or 1, len(values["z"])
    drawn = np.concatenate([run(feed)[signature.image] for feed in _feeds(signature, values, size)])[:count]
    if drawn.ndim != 4 or len(drawn) != count:
        raise CheckpointError(f"it returns an array of shape {list(drawn.shape)} for {count} z")
    return drawn


def _layout(drawn: AnyArray, value_range: str) -> ImageLayout:
    """Derive the layout of what was drawn, [N, C, R, R] or [N, R, R, C].

    Raises:
        CheckpointError: it is no square image, or not in the range that the person named.
    """
    channels_last = drawn.shape[1] > MAX_IMAGE_CHANNELS >= drawn.shape[3]
    _, channels, height, width = (drawn.transpose(0, 3, 1, 2) if channels_last else drawn).shape
    if height != width or not 1 <= channels <= MAX_IMAGE_CHANNELS or not 1 <= height <= MAX_RESOLUTION_PX:
        raise CheckpointError(
            f"it draws {channels} x {height} x {width} (channels, height, width); supported are squares of at most "
            f"{MAX_RESOLUTION_PX} px with up to {MAX_IMAGE_CHANNELS} channels"
        )
    layout = ImageLayout(channels=channels, resolution_px=height, channels_last=channels_last, value_range=value_range)
    image = to_image(drawn, layout)
    if not np.isfinite(image).all():
        raise CheckpointError("its images hold NaN or infinite values")
    if np.abs(image).max() > MAX_MAGNITUDE:
        values = f"{drawn.min():.3g} to {drawn.max():.3g}"
        raise CheckpointError(f"its images hold values of {values}, not of {value_range}: set --value-range")
    return layout


def _feeds(signature: Signature, values: Mapping[str, Array], size: int) -> Iterator[dict[str, Array]]:
    """Cut a batch into batches of one size, the last filled up, under the names and shapes of the original."""
    z, label = values["z"], values.get("label")
    if label is not None and signature.label is None:
        z = np.concatenate([z, label], 1)
    for start in range(0, len(z), size):
        rows = np.arange(start, start + size) % len(z)
        feed = {signature.z.name: z[rows].reshape(size, -1, *[1] * signature.z.trailing)}
        if signature.label is not None and label is not None:
            feed[signature.label.name] = label[rows].reshape(size, -1, *[1] * signature.label.trailing)
        yield feed


def _remarks(signature: Signature, layout: ImageLayout, cases: list[Case]) -> Iterator[str]:
    """Yield what a person should know about the model."""
    yield _NO_REFERENCE
    if layout.value_range == "-1,1" and cases[-1].outputs["image"].min() >= 0:
        yield "no value that it drew is negative: if it draws in 0 to 1, import it with --value-range 0,1"
    if signature.fixed_batch is not None:
        yield f"the file is made for a batch of {signature.fixed_batch}; others were tried and give the same images"


def _check(path: Path, cases: list[Case], signature: Signature) -> ArtifactCheck:
    """Compare the wrapped graph at all batch sizes with the original, run at its own."""
    try:
        report = check_graph_file(path, cases, "round")
    except Exception as err:  # onnxruntime's exceptions have no class in common
        if signature.fixed_batch is None:
            raise
        raise CheckpointError(_fixed(signature)) from err
    if report.problems and signature.fixed_batch is not None:
        raise CheckpointError(_fixed(signature))
    if report.problems:
        raise VerificationError(
            f"an image depends on the others of its batch ({report.problems[0]}): was it exported in training mode?"
        )
    return report.check


def _fixed(signature: Signature) -> str:
    return (
        f"it is made for a batch of exactly {signature.fixed_batch}, and draws no or other images with another size: "
        f"export it again with a dynamic batch axis"
    )


def _manifest(job: ImportJob, signature: Signature, layout: ImageLayout) -> Manifest:
    source = SourceInfo(name=job.file.name, family="onnx", sha256=file_info(job.file).sha256)
    return Manifest(
        name=job.name,
        architecture="onnx",
        resolution_px=layout.resolution_px,
        image_channels=layout.channels,
        z_dim=signature.z_dim,
        w_dim=0,
        label_dim=signature.label_dim,
        label_names=job.label_names,
        layer_count=0,
        layers=(),
        noise_size=0,
        latent_space=job.latent_space or f"sha256:{source.sha256[:16]}",  # z of another model means nothing
        license=job.license,
        attribution=job.attribution,
        sources=(source,),
        files={},
    )
