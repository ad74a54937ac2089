"""The whole export in order: read -> build -> trace -> verify -> write, all or nothing."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from stylewire.latents import role_of
from stylewire.manifest import (
    CHECK_FILE,
    W_MEAN_FILE,
    ArtifactCheck,
    EncoderInfo,
    LayerInfo,
    Manifest,
    SourceInfo,
    file_info,
)
from stylewire_export.blend import BlendRule, blend
from stylewire_export.checkpoints import AnyGenerator, read_any_generator, read_encoder, read_generator
from stylewire_export.checkpoints.config import EncoderCheckpoint
from stylewire_export.errors import BundleError, CheckpointError, VerificationError
from stylewire_export.exportable import Exportable, check_label_names, make_exportable
from stylewire_export.formats import DEFAULT_FORMATS, FORMATS, Precision
from stylewire_export.formats.half import half_form
from stylewire_export.graphs import Graph, encoder_graph
from stylewire_export.networks.loading import load_encoder
from stylewire_export.staging import check_target, staging
from stylewire_export.verify import reference_cases, verify_graph, write_check_vectors

MAX_IMAGE_CHANNELS = 4  # RGBA, the most that an image file holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Blending:
    """A second generator, whose high resolutions replace those of the first."""

    finetuned: Path
    rule: BlendRule


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportJob:
    """What to export and where to.

    Attributes:
        generator: checkpoint of the generator, or a pSp or e4e file, whose decoder is taken.
        encoders: checkpoints of encoders; the first becomes the graph ``encoder``, others ``encoder-<task>``.
        name: of the model and of its directory.
        out: directory of model directories.
        resolution_px: of the image, where the file holds several (StyleGAN1); None takes the highest trained one.
        z_dim: how many inputs of a generator without styles are z; the others are the label.
        label_names: names of the labels by index; empty if nobody names them.
        blending: what takes over the generator's high resolutions, if anything.
        formats: keys of ``FORMATS``.
        latent_space: id that allows codes to cross between models; None derives it from the mapping network.
        force: replace an existing model directory.
    """

    generator: Path
    encoders: tuple[Path, ...] = ()
    resolution_px: int | None = None
    z_dim: int | None = None
    label_names: tuple[str, ...] = ()
    blending: Blending | None = None
    name: str
    out: Path
    formats: tuple[str, ...] = DEFAULT_FORMATS
    latent_space: str | None = None
    license: str = ""
    attribution: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export wrote, how long it took and what a person should know about it."""

    directory: Path
    manifest: Manifest
    seconds: float
    notes: tuple[str, ...]


def export_model(job: ExportJob) -> ExportReport:
    """Export checkpoints into a model directory; if anything fails, nothing is left behind.

    Raises:
        BundleError: the name is not allowed, the directory exists, or two encoders have one task.
        stylewire_export.blend.BlendError: the two generators cannot be blended.
        CheckpointError: a file cannot be read, or an encoder does not belong to the generator.
        stylewire_export.verify.VerificationError: a graph file differs from the network.
    """
    started = time.monotonic()
    _check_job(job)
    model = _read(job)
    with staging(job.out, job.name) as directory:
        if model.generator.mean_w is not None:
            np.save(directory / W_MEAN_FILE, model.generator.mean_w)
        write_check_vectors(model.graphs, directory / CHECK_FILE)
        checks, left_out = _write_graphs(model, directory, job.formats)
        manifest = _manifest(job, model, checks, directory)
        manifest.write(directory)
    return ExportReport(
        directory=job.out / job.name,
        manifest=manifest,
        seconds=time.monotonic() - started,
        notes=(*model.notes, *left_out),
    )


def _check_job(job: ExportJob) -> None:
    check_target(job.out, job.name, force=job.force)
    if not job.formats or not set(job.formats) <= set(FORMATS):
        raise BundleError(f"unknown formats {', '.join(job.formats)!r}: choose from {', '.join(FORMATS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What the checkpoints of a job hold, ready to write."""

    generator: Exportable
    graphs: list[Graph]
    encoders: tuple[EncoderInfo, ...]
    sources: tuple[SourceInfo, ...]
    notes: tuple[str, ...]


def _read(job: ExportJob) -> _Model:
    checkpoint, sources = _read_generators(job)
    encoders = [read_encoder(path) for path in job.encoders]
    generator, infos = make_exportable(checkpoint, job.z_dim), _encoder_infos(encoders)
    _check_fit(job, generator)
    graphs = list(generator.graphs)
    notes = [*generator.notes, *(note for encoder in encoders for note in encoder.notes)]
    for path, info, encoder in zip(job.encoders, infos, encoders, strict=True):
        graphs.append(_encoder_graph(info.graph, encoder, generator))
        sources.append(_source(path, encoder.family))
    return _Model(
        generator=generator,
        graphs=graphs,
        encoders=tuple(infos),
        sources=tuple(sources),
        notes=tuple(dict.fromkeys(notes)),
    )


def _read_generators(job: ExportJob) -> tuple[AnyGenerator, list[SourceInfo]]:
    """Read the generator, blended if the job blends, and list the files that it came from."""
    if job.blending is None:
        checkpoint = read_any_generator(job.generator, resolution_px=job.resolution_px)
        return checkpoint, [_source(job.generator, checkpoint.family)]
    base, finetuned = read_generator(job.generator), read_generator(job.blending.finetuned)
    sources = [_source(job.generator, base.family), _source(job.blending.finetuned, finetuned.family)]
    return blend(base, finetuned, job.blending.rule, related=job.latent_space is not None), sources


def _check_fit(job: ExportJob, generator: Exportable) -> None:
    """Compare what the job states about the generator with the generator."""
    if job.resolution_px not in (None, generator.resolution_px):
        raise BundleError(f"this generator draws {generator.resolution_px} px only, not {job.resolution_px}")
    if generator.image_channels > MAX_IMAGE_CHANNELS:
        raise CheckpointError(
            f"images of {generator.image_channels} channels are not supported (1 to {MAX_IMAGE_CHANNELS} are)"
        )
    if job.encoders and not generator.w_dim:
        raise BundleError("a generator without styles takes no codes, so it can have no encoder")
    check_label_names(job.label_names, generator.label_dim)


def _source(path: Path, family: str) -> SourceInfo:
    return SourceInfo(name=path.name, family=family, sha256=file_info(path).sha256)


def _encoder_infos(checkpoints: list[EncoderCheckpoint]) -> list[EncoderInfo]:
    infos = [
        EncoderInfo(
            graph="encoder" if index == 0 else f"encoder-{checkpoint.task}",
            task=checkpoint.task,
            input_kind=checkpoint.input_kind,
            input_channels=checkpoint.input_channels,
            input_height_px=checkpoint.input_size_px[0],
            input_width_px=checkpoint.input_size_px[1],
            reduction=checkpoint.reduction,
        )
        for index, checkpoint in enumerate(checkpoints)
    ]
    tasks = [info.task for info in infos]
    if len(set(tasks)) != len(tasks):
        raise BundleError(f"two encoders have the same task ({', '.join(tasks)}): a model has one encoder a task")
    return infos


def _encoder_graph(name: str, checkpoint: EncoderCheckpoint, generator: Exportable) -> Graph:
    layer_count, w_dim = len(generator.layer_resolutions_px), generator.w_dim
    if (checkpoint.layer_count, checkpoint.w_dim) != (layer_count, w_dim):
        raise CheckpointError(
            f"The encoder makes codes of {checkpoint.layer_count} x {checkpoint.w_dim} values, the generator takes "
            f"{layer_count} x {w_dim}: they do not belong together."
        )
    mean_code = torch.zeros(layer_count, w_dim) if checkpoint.latent_avg is None else checkpoint.latent_avg
    return encoder_graph(name, load_encoder(checkpoint), mean_code)


def _write_graphs(model: _Model, directory: Path, formats: tuple[str, ...]) -> tuple[list[ArtifactCheck], list[str]]:
    """Write all files; return what their verification measured, and notes about optional ones that are left out."""
    checks, notes = [], []
    for graph in model.graphs:
        cases, rule = reference_cases(graph), model.generator.pixel_rule
        for name in formats:
            form = FORMATS[name]
            written = _in_precision(graph, form.precision)
            if written is None or (form.optional and graph.name == "mapping"):
                continue
            path = directory / f"{graph.name}{form.suffix}"
            try:
                form.write(written, path)
                checks.append(verify_graph(graph, path, cases, rule, form.precision))
            except (BundleError, VerificationError) as err:
                if not form.optional:
                    raise
                for suffix in form.suffixes:
                    (directory / f"{graph.name}{suffix}").unlink(missing_ok=True)
                notes.append(f"{name} of {graph.name} is left out: {err}")
    return checks, notes


def _in_precision(graph: Graph, precision: Precision) -> Graph | None:
    if precision == "fp32":
        return graph
    module = half_form(graph.module)
    return None if module is None else replace(graph, module=module)


def _manifest(job: ExportJob, model: _Model, checks: list[ArtifactCheck], directory: Path) -> Manifest:
    generator = model.generator
    return Manifest(
        name=job.name,
        architecture=generator.architecture,
        resolution_px=generator.resolution_px,
        image_channels=generator.image_channels,
        z_dim=generator.z_dim,
        w_dim=generator.w_dim,
        label_dim=generator.label_dim,
        label_names=job.label_names,
        layer_count=len(generator.layer_resolutions_px),
        layers=tuple(LayerInfo(resolution_px=side, role=role_of(side)) for side in generator.layer_resolutions_px),
        noise_size=generator.noise_size,
        latent_space=job.latent_space or generator.latent_space,
        pixel_rule=generator.pixel_rule,
        encoders=model.encoders,
        license=job.license,
        attribution=job.attribution,
        sources=model.sources,
        notes=model.notes,
        checks=tuple(checks),
        files={path.name: file_info(path) for path in sorted(directory.iterdir())},
    )
