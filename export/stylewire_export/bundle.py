"""The whole export in order: read -> build -> trace -> verify -> write, all or nothing."""

import hashlib
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stylewire.latents import ROLE_RANGES_PX, layer_resolutions
from stylewire.manifest import (
    MODEL_NAME_PATTERN,
    ArtifactCheck,
    EncoderInfo,
    LayerInfo,
    Manifest,
    SourceInfo,
    file_info,
)
from stylewire_export.checkpoints import read_encoder, read_generator
from stylewire_export.checkpoints.config import EncoderCheckpoint
from stylewire_export.errors import CheckpointError
from stylewire_export.generator import Generator
from stylewire_export.graphs import Graph, encoder_graph, mapping_graph, synthesis_graph
from stylewire_export.networks import load_encoder, load_generator
from stylewire_export.to_onnx import write_onnx
from stylewire_export.to_torchscript import write_torchscript
from stylewire_export.verify import CHECK_FILE, reference_cases, verify_graph, write_check_vectors

W_MEAN_FILE = "w_mean.npy"
WRITERS = {"onnx": (".onnx", write_onnx), "torchscript": (".pt", write_torchscript)}
"""Format -> suffix and writer of its graph files."""


class BundleError(Exception):
    """The model directory cannot be written as asked; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportJob:
    """What to export and where to.

    Attributes:
        generator: checkpoint of the generator, or a pSp or e4e file, whose decoder is taken.
        encoders: checkpoints of encoders; the first becomes the graph ``encoder``, others ``encoder-<task>``.
        name: of the model and of its directory.
        out: directory of model directories.
        formats: keys of ``WRITERS``.
        latent_space: id that allows codes to cross between models; None derives it from the mapping network.
        force: replace an existing model directory.
    """

    generator: Path
    encoders: tuple[Path, ...] = ()
    name: str
    out: Path
    formats: tuple[str, ...] = ("onnx", "torchscript")
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
        CheckpointError: a file cannot be read, or an encoder does not belong to the generator.
        stylewire_export.verify.VerificationError: a graph file differs from the network.
    """
    started = time.monotonic()
    _check_target(job)
    model = _read(job)
    with _staging(job) as directory:
        np.save(directory / W_MEAN_FILE, model.generator.mapping.w_avg.numpy())
        write_check_vectors(model.graphs, directory / CHECK_FILE)
        manifest = _manifest(job, model, _write_graphs(model, directory, job.formats), directory)
        manifest.write(directory)
    return ExportReport(
        directory=job.out / job.name, manifest=manifest, seconds=time.monotonic() - started, notes=model.notes
    )


def latent_space_of(generator: Generator) -> str:
    """Name the w space of a generator: models with equal mapping networks share it.

    ``w_avg`` does not take part, since it may drift in a fine-tuning that freezes the mapping network.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(generator.mapping.state_dict().items()):
        if name != "w_avg":
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:16]}"


def _check_target(job: ExportJob) -> None:
    if not re.fullmatch(MODEL_NAME_PATTERN, job.name):
        raise BundleError(f"the name {job.name!r} is not allowed: use up to 63 of a-z, 0-9, - and _, such as 'faces'")
    if not job.formats or not set(job.formats) <= set(WRITERS):
        raise BundleError(f"unknown formats {', '.join(job.formats)!r}: use {' and '.join(WRITERS)}")
    if (job.out / job.name).exists() and not job.force:
        raise BundleError(f"{job.out / job.name} exists: choose another --name, or --force to replace it")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What the checkpoints of a job hold, ready to write."""

    generator: Generator
    graphs: list[Graph]
    encoders: tuple[EncoderInfo, ...]
    sources: tuple[SourceInfo, ...]
    notes: tuple[str, ...]


def _read(job: ExportJob) -> _Model:
    checkpoint = read_generator(job.generator)
    encoders = [read_encoder(path) for path in job.encoders]
    generator, infos = load_generator(checkpoint), _encoder_infos(encoders)
    graphs = [mapping_graph(generator), synthesis_graph(generator)]
    sources = [_source(job.generator, checkpoint.family)]
    notes = [*checkpoint.notes, *(note for encoder in encoders for note in encoder.notes)]
    if not checkpoint.has_w_avg:
        notes.append("the file has no mean of w: it was estimated from 10,000 seeded samples")
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
        )
        for index, checkpoint in enumerate(checkpoints)
    ]
    tasks = [info.task for info in infos]
    if len(set(tasks)) != len(tasks):
        raise BundleError(f"two encoders have the same task ({', '.join(tasks)}): a model has one encoder a task")
    return infos


def _encoder_graph(name: str, checkpoint: EncoderCheckpoint, generator: Generator) -> Graph:
    layer_count, w_dim = generator.synthesis.layer_count, generator.config.w_dim
    if (checkpoint.layer_count, checkpoint.w_dim) != (layer_count, w_dim):
        raise CheckpointError(
            f"The encoder gives codes of {checkpoint.layer_count} x {checkpoint.w_dim} values, the generator takes "
            f"{layer_count} x {w_dim}: they do not belong together."
        )
    mean_code = torch.zeros(layer_count, w_dim) if checkpoint.latent_avg is None else checkpoint.latent_avg
    return encoder_graph(name, load_encoder(checkpoint), mean_code)


@contextmanager
def _staging(job: ExportJob) -> Iterator[Path]:
    """Give a directory beside the target that becomes the target when the block ends well, else vanishes."""
    target = job.out / job.name
    missing = [parent for parent in (job.out, *job.out.parents) if not parent.exists()]
    job.out.mkdir(parents=True, exist_ok=True)
    staging = job.out / f".{job.name}-{uuid.uuid4().hex}"
    try:
        staging.mkdir()
        yield staging
        replaced = staging.with_name(f"{staging.name}-replaced")
        if target.exists():  # only with --force
            target.rename(replaced)
        staging.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for parent in missing:
            parent.rmdir()
        raise


def _write_graphs(model: _Model, directory: Path, formats: tuple[str, ...]) -> list[ArtifactCheck]:
    checks = []
    for graph in model.graphs:
        cases = reference_cases(graph)
        for suffix, write in (WRITERS[name] for name in formats):
            path = directory / f"{graph.name}{suffix}"
            write(graph, path)
            checks.append(verify_graph(graph, path, cases, model.generator.config.pixel_rule))
    return checks


def _manifest(job: ExportJob, model: _Model, checks: list[ArtifactCheck], directory: Path) -> Manifest:
    config, synthesis = model.generator.config, model.generator.synthesis
    return Manifest(
        name=job.name,
        architecture=f"stylegan2-{config.architecture}",
        resolution_px=config.resolution_px,
        image_channels=config.image_channels,
        z_dim=config.z_dim,
        w_dim=config.w_dim,
        label_dim=config.label_dim,
        layer_count=synthesis.layer_count,
        layers=tuple(_layers(config.resolution_px)),
        noise_size=synthesis.noise_size,
        latent_space=job.latent_space or latent_space_of(model.generator),
        pixel_rule=config.pixel_rule,
        encoders=model.encoders,
        license=job.license,
        attribution=job.attribution,
        sources=model.sources,
        checks=tuple(checks),
        files={path.name: file_info(path) for path in sorted(directory.iterdir())},
    )


def _layers(resolution_px: int) -> Iterator[LayerInfo]:
    for side in layer_resolutions(resolution_px):
        role = next(role for role, (low, high) in ROLE_RANGES_PX.items() if low <= side <= high)
        yield LayerInfo(resolution_px=side, role=role)
