"""Verification must be able to fail: every kind of damage shows."""

import shutil

import numpy as np
import onnx
import pytest

from stylewire.manifest import Manifest, ManifestError, file_info
from stylewire_export.bundle import ExportJob, export_model
from stylewire_export.errors import VerificationError
from stylewire_export.verify import pixel_error, relative_error, verify_directory


@pytest.fixture(scope="module")
def exported(tiny_checkpoints, tmp_path_factory):
    out = tmp_path_factory.mktemp("models")
    return export_model(
        ExportJob(generator=tiny_checkpoints[0], name="tiny", out=out, formats=("onnx", "torchscript"))
    ).directory


@pytest.fixture
def directory(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "tiny")


def seal(directory, name):
    """Make the manifest agree with a changed file, as a bad exporter would."""
    manifest = Manifest.read(directory)
    files = dict(manifest.files) | {name: file_info(directory / name)}
    manifest.model_copy(update={"files": files}).write(directory)


def damage(directory, change):
    """Change the first large weight of the synthesis graph."""
    model = onnx.load(directory / "synthesis.onnx")
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(tensor).copy()
    change(values.reshape(-1))
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, directory / "synthesis.onnx")
    seal(directory, "synthesis.onnx")


def problems_of(directory):
    return {report.check.file: report.problems for report in verify_directory(directory) if report.problems}


def test_changed_byte_is_found_by_its_digest(directory):
    """A file that is not the exported one is named."""
    content = bytearray((directory / "mapping.pt").read_bytes())
    content[-1] ^= 1
    (directory / "mapping.pt").write_bytes(content)

    with pytest.raises(ManifestError, match=r"mapping\.pt differs"):
        verify_directory(directory)


def test_changed_weight_is_found_by_its_outputs(directory):
    """A graph that computes something else fails, whatever its digest says; the others still pass."""
    damage(directory, lambda values: values.__setitem__(0, values[0] + 1))

    problems = problems_of(directory)

    assert ["synthesis.onnx"] == list(problems)
    assert any("image at batch 1 is off by" in problem for problem in problems["synthesis.onnx"])


def test_nan_is_found(directory):
    """NaN compares false with every limit, and must fail nonetheless."""
    damage(directory, lambda values: values.__setitem__(0, np.nan))

    assert any("off by nan" in problem for problem in problems_of(directory)["synthesis.onnx"])


def test_fixed_batch_size_is_found(directory):
    """A graph traced for one batch size fails at the others."""
    model = onnx.load(directory / "mapping.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, directory / "mapping.onnx")
    seal(directory, "mapping.onnx")

    with pytest.raises(VerificationError, match="dynamic batch"):
        verify_directory(directory)


def test_relative_error_is_the_largest_difference_over_the_range():
    """The error is relative to the range of the expected values."""
    assert 0.25 == relative_error(np.array([-1.0, 1.0]), np.array([-1.0, 1.5]))
    assert np.isnan(relative_error(np.array([0.0, 1.0]), np.array([0.0, np.nan])))


def pictures(level, *, error=0.0):
    """One pixel whose exact value lies at a level between 0 and 255, rounded down."""
    image = np.full((1, 1, 1, 1), (level - 128) / 127.5)
    return {"image": image + error / 127.5, "pixels": np.full((1, 1, 1, 1), int(level + error), np.uint8)}


def test_pixel_error_accepts_a_tie_only():
    """A byte may differ where the float image lies on a step, and nowhere else."""
    assert 0 == pixel_error(pictures(100.5), pictures(100.5), "round")
    assert 1 == pixel_error(pictures(100.001), pictures(100.001, error=-0.002), "round")
    wrong = pictures(100.5) | {"pixels": np.full((1, 1, 1, 1), 101, np.uint8)}
    assert np.isinf(pixel_error(pictures(100.5), wrong, "round"))
