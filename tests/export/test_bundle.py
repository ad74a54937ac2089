"""Model directories: what is in them, and that an export is all or nothing."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from stylewire.manifest import Manifest
from stylewire_export.bundle import BundleError, ExportJob, export_model
from stylewire_export.errors import CheckpointError, VerificationError
from stylewire_export.networks.generator import Generator
from stylewire_export.verify import verify_directory


@pytest.fixture
def job(tiny_checkpoints, tmp_path):
    generator, encoder = tiny_checkpoints
    formats = ("onnx", "torchscript")
    return ExportJob(generator=generator, encoders=(encoder,), name="tiny", out=tmp_path / "models", formats=formats)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_export_writes_a_complete_model_directory(job, tiny_generator):
    """Graphs in both formats, the mean of w, check vectors and a manifest that fits the files."""
    report = export_model(replace(job, license="CC0-1.0", attribution="nobody"))
    manifest = Manifest.read(job.out / "tiny")
    manifest.verify_files(job.out / "tiny")

    assert report.manifest == manifest
    assert ("encoder", "mapping", "synthesis") == manifest.graphs(".onnx") == manifest.graphs(".pt")
    assert {"check.npz", "w_mean.npy"} < set(manifest.files)
    assert set(manifest.files) | {"model.json"} == {path.name for path in report.directory.iterdir()}
    assert ("stylegan2-skip", 32, 8, 8) == (
        manifest.architecture,
        manifest.resolution_px,
        manifest.w_dim,
        manifest.layer_count,
    )
    assert [4, 8, 8, 16, 16, 32, 32, 32] == [layer.resolution_px for layer in manifest.layers]
    assert ["coarse"] * 3 + ["middle"] * 5 == [layer.role for layer in manifest.layers]
    assert tiny_generator.synthesis.noise_size == manifest.noise_size
    assert ("CC0-1.0", "nobody") == (manifest.license, manifest.attribution)
    assert [("encoder", "encode", 32)] == [(info.graph, info.task, info.input_height_px) for info in manifest.encoders]
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in (job.generator, *job.encoders)] == [
        source.sha256 for source in manifest.sources
    ]
    assert 6 == len(manifest.checks)
    np.testing.assert_array_equal(tiny_generator.mapping.w_avg.numpy(), np.load(report.directory / "w_mean.npy"))


def test_export_of_formats_writes_these_only(job):
    """ONNX alone leaves TorchScript out."""
    manifest = export_model(replace(job, formats=("onnx",))).manifest

    assert () == manifest.graphs(".pt")
    assert ("encoder", "mapping", "synthesis") == manifest.graphs(".onnx")


def test_export_is_repeatable(job, tmp_path):
    """ONNX files, check vectors and the manifest are the same bytes at every export."""
    first = export_model(replace(job, formats=("onnx",)))
    second = export_model(replace(job, formats=("onnx",), out=tmp_path / "again"))

    assert digests(first.directory) == digests(second.directory)


def test_existing_model_is_replaced_only_by_force(job):
    """Without force nothing changes; with force the whole directory is the new one."""
    job = replace(job, formats=("onnx",))
    directory = export_model(job).directory
    (directory / "old").touch()
    before = digests(directory)

    with pytest.raises(BundleError, match="--force"):
        export_model(job)

    assert before == digests(directory)
    export_model(replace(job, force=True))
    assert not (directory / "old").exists()
    assert [directory] == list(job.out.iterdir())


def test_failed_export_leaves_nothing(job, monkeypatch):
    """When a graph does not verify, neither the model nor the folder of models is made."""

    def refuse(*_arguments):
        raise VerificationError("synthesis.pt: image at batch 5 is off")

    monkeypatch.setattr("stylewire_export.bundle.verify_graph", refuse)

    with pytest.raises(VerificationError):
        export_model(job)

    assert not job.out.exists()


def test_failed_export_by_force_keeps_the_old_model(job, monkeypatch):
    """A failure while replacing leaves the model that was there."""
    job = replace(job, formats=("onnx",))
    before = digests(export_model(job).directory)

    def refuse(*_arguments):
        raise VerificationError("synthesis.onnx: image at batch 5 is off")

    monkeypatch.setattr("stylewire_export.bundle.verify_graph", refuse)

    with pytest.raises(VerificationError):
        export_model(replace(job, force=True))

    assert before == digests(job.out / "tiny")
    assert [job.out / "tiny"] == list(job.out.iterdir())


@pytest.mark.parametrize("name", ["", "Faces", "../faces", "a b", "a" * 64, ".hidden", "faces\n"])
def test_name_must_be_a_plain_directory_name(job, name):
    """Names that are no directory, or not portable, are refused before anything is read."""
    with pytest.raises(BundleError, match="is not allowed"):
        export_model(replace(job, name=name, generator=job.generator.with_name("absent.pt")))


def test_unknown_format_is_refused(job):
    """A format that does not exist is named with those that do."""
    with pytest.raises(BundleError, match=r"unknown formats 'onnx, tflite': choose from onnx, torchscript, ncnn"):
        export_model(replace(job, formats=("onnx", "tflite")))


def test_encoder_of_another_generator_is_refused(job, tiny_generator, tmp_path):
    """An encoder whose codes do not fit the generator is refused with both sizes, and nothing is made."""
    torch.save({"g_ema": Generator(replace(tiny_generator.config, w_dim=12)).state_dict()}, tmp_path / "other.pt")

    with pytest.raises(CheckpointError, match="8 x 8 values, the generator takes 8 x 12"):
        export_model(replace(job, generator=tmp_path / "other.pt"))

    assert not job.out.exists()


def test_second_encoder_needs_another_task(job):
    """Two encoders of one task would take one name."""
    with pytest.raises(BundleError, match="same task"):
        export_model(replace(job, encoders=job.encoders * 2))


def test_second_encoder_is_named_after_its_task(job, golden):
    """The first encoder is the default one; a sketch encoder beside it becomes ``encoder-sketch``."""
    photo, sketch = golden / "psp_wplus_narrow32" / "model.pt", golden / "psp_sketch_narrow32" / "model.pt"

    manifest = export_model(replace(job, generator=photo, encoders=(photo, sketch), formats=("onnx",))).manifest

    named = [(info.graph, info.input_kind, info.input_channels) for info in manifest.encoders]
    assert [("encoder", "photo", 3), ("encoder-sketch", "sketch", 1)] == named
    assert ("encoder", "encoder-sketch", "mapping", "synthesis") == manifest.graphs(".onnx")
    assert "truncate" == manifest.pixel_rule


def test_latent_space_is_shared_by_equal_mapping_networks(job, tiny_generator, tmp_path):
    """Fine-tuning with the mapping frozen keeps the id, even if the mean drifts; another mapping has another id."""
    tuned, other = tiny_generator.state_dict(), tiny_generator.state_dict()
    tuned = tuned | {"synthesis.b4.const": tuned["synthesis.b4.const"] + 1, "mapping.w_avg": tuned["mapping.w_avg"] + 1}
    other = other | {"mapping.fc1.bias": other["mapping.fc1.bias"] + 1}
    ids = {}
    for name, state in (("base", tiny_generator.state_dict()), ("tuned", tuned), ("other", other)):
        torch.save({"g_ema": state}, tmp_path / f"{name}.pt")
        single = replace(job, generator=tmp_path / f"{name}.pt", encoders=(), name=name, formats=("onnx",))
        ids[name] = export_model(single).manifest.latent_space

    assert ids["base"] == ids["tuned"] != ids["other"]
    assert ids["base"].startswith("sha256:")


def test_latent_space_can_be_named(job):
    """A person may know better which models share codes."""
    named = replace(job, encoders=(), formats=("onnx",), latent_space="ffhq-1024")

    assert "ffhq-1024" == export_model(named).manifest.latent_space


def test_checks_hold_later_without_the_checkpoint(job):
    """The stored vectors verify both formats of every graph at batch sizes 1, 2 and 5."""
    directory = export_model(job).directory

    reports = verify_directory(directory)

    assert 6 == len(reports)
    assert {(1, 2, 5)} == {report.check.batch_sizes for report in reports}
    assert not any(report.problems for report in reports)
