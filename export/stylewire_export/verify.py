"""Graph files against PyTorch at export, and against the stored check vectors at any later time.

Every file is run at batch sizes 1, 2 and 5, since a traced constant shows only at another size than the traced one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stylewire.latents import Array
from stylewire.manifest import CHECK_FILE, ArtifactCheck, Manifest
from stylewire_export.checkpoints.config import PixelRule
from stylewire_export.errors import VerificationError
from stylewire_export.formats import FORMATS, Precision
from stylewire_export.graphs import Graph
from stylewire_export.runners import AnyArray, Run, open_graph_file

BATCH_SIZES = (1, 2, 5)
LIMITS = {"w": 1e-5, "w_plus": 1e-4, "image": 2e-4, "pixels": 1.0}
"""Output -> largest error accepted: relative to the output's range; for pixels in levels, and at rounding ties only."""
FP16_PSNR_DB, FP16_LEVELS = 50.0, 3.0
"""The same for files in half precision: least ratio of range to rms error, and largest difference of pixels."""
MOST_PSNR_DB = 200.0  # stands for equality: JSON has no infinity

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """The result of verifying one graph file; ``problems`` is empty for a good one."""

    check: ArtifactCheck
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs of one batch, and the outputs that PyTorch computes from them."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, AnyArray]


def reference_cases(graph: Graph) -> list[Case]:
    """Run the PyTorch module at every batch size; one reference serves all files of a graph."""
    examples = [graph.examples(size) for size in BATCH_SIZES]
    return [Case(values, graph.run(values)) for values in examples]


def verify_graph(
    graph: Graph, path: Path, cases: Sequence[Case], rule: PixelRule, precision: Precision = "fp32"
) -> ArtifactCheck:
    """Compare a fresh graph file with the PyTorch module in float32.

    Raises:
        VerificationError: the file differs from the module.
    """
    report = _compare(path, open_graph_file(path, graph.inputs, graph.outputs), cases, rule, precision)
    if report.problems:
        raise VerificationError(f"{path.name}: {'; '.join(report.problems)}")
    return report.check


def verify_directory(directory: Path) -> list[FileReport]:
    """Compare all graph files of a model directory with its check vectors; needs no checkpoint.

    Raises:
        stylewire.manifest.ManifestError: the manifest is wrong, or a file is absent or changed.
    """
    manifest = Manifest.read(directory)
    manifest.verify_files(directory)
    vectors = read_check_vectors(directory / CHECK_FILE)
    reports = []
    for form in FORMATS.values():
        for graph in manifest.graphs(form.suffix):
            inputs, outputs = vectors[graph]
            cases = [Case(_repeat(inputs, size), _repeat(outputs, size)) for size in BATCH_SIZES]
            path = directory / f"{graph}{form.suffix}"
            reports.append(check_graph_file(path, cases, manifest.pixel_rule, form.precision))
    return reports


def check_graph_file(path: Path, cases: Sequence[Case], rule: PixelRule, precision: Precision = "fp32") -> FileReport:
    """Compare a graph file with known inputs and outputs, both in the graph's order, one case a batch size.

    Raises:
        VerificationError: an ONNX file has other inputs or outputs, or a fixed batch size.
    """
    run = open_graph_file(path, tuple(cases[0].inputs), tuple(cases[0].outputs))
    return _compare(path, run, cases, rule, precision)


def write_check_vectors(graphs: list[Graph], path: Path) -> None:
    """Store the two-item example of every graph with the outputs that PyTorch computes from it."""
    cases = {}
    for graph in graphs:
        values = graph.examples(2)
        cases[graph.name] = Case({name: values[name] for name in graph.inputs}, graph.run(values))
    save_check_vectors(cases, path)


def save_check_vectors(cases: Mapping[str, Case], path: Path) -> None:
    """Store one case a graph, its inputs and outputs in the graph's order."""
    arrays: dict[str, AnyArray] = {}
    for graph, case in cases.items():
        arrays |= {f"{graph}.in.{name}": array for name, array in case.inputs.items()}
        arrays |= {f"{graph}.out.{name}": array for name, array in case.outputs.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as its own flags


def read_check_vectors(path: Path) -> dict[str, tuple[dict[str, Array], dict[str, AnyArray]]]:
    """Read check vectors: graph -> inputs and outputs by name, in the graph's order."""
    vectors: dict[str, tuple[dict[str, Array], dict[str, AnyArray]]] = {}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            graph, direction, name = key.split(".")
            inputs, outputs = vectors.setdefault(graph, ({}, {}))
            (inputs if direction == "in" else outputs)[name] = file[key]
    return vectors


def _compare(path: Path, run: Run, cases: Sequence[Case], rule: PixelRule, precision: Precision) -> FileReport:
    errors: dict[str, float] = {}
    psnr_db = MOST_PSNR_DB
    problems: list[str] = []
    for size, case in zip(BATCH_SIZES, cases, strict=True):
        outputs = run(case.inputs)
        for name, reference in case.outputs.items():
            got = outputs[name]
            if got.shape != reference.shape or got.dtype != reference.dtype:
                problems.append(f"{name} at batch {size} is {got.dtype}{got.shape}, not {reference.shape}")
                continue
            error = relative_error(reference, got) if name != "pixels" else pixel_error(case.outputs, outputs, rule)
            errors[name] = max(error, errors.get(name, 0.0))
            likeness = MOST_PSNR_DB if name == "pixels" else psnr(reference, got)
            psnr_db = min(psnr_db, likeness)
            if problem := _judge(name, error, likeness, precision):
                problems.append(f"{name} at batch {size} {problem}")
    check = ArtifactCheck(
        file=path.name, precision=precision, batch_sizes=BATCH_SIZES, errors=errors, psnr_db=round(psnr_db, 1)
    )
    return FileReport(check=check, problems=tuple(problems))


def _judge(name: str, error: float, psnr_db: float, precision: Precision) -> str:
    """Describe what is wrong with an output, "" if nothing; NaN must fail, hence "not within" and never "beyond"."""
    if precision == "fp32" and not error <= LIMITS[name]:
        return f"is off by {error:.2g}, limit {LIMITS[name]:.2g}"
    if precision == "fp16" and name == "pixels" and not error <= FP16_LEVELS:
        return f"is off by {error:.2g} levels, limit {FP16_LEVELS:.0f}"
    if precision == "fp16" and not psnr_db >= FP16_PSNR_DB:
        return f"has {psnr_db:.1f} dB, at least {FP16_PSNR_DB:.0f} are needed"
    return ""


def relative_error(expected: AnyArray, got: AnyArray) -> float:
    """Return the largest absolute difference over the range of the expected values; NaN if anything is NaN.

    Args:
        expected: numbers of any shape.
        got: of the same shape.
    """
    reference, values = expected.astype(np.float64), got.astype(np.float64)
    return float(np.abs(values - reference).max() / max(float(np.ptp(reference)), 1e-12))


def psnr(expected: AnyArray, got: AnyArray) -> float:
    """Return the ratio of the range of the expected values to the rms error, in dB, at most 200; NaN if any is NaN.

    Args:
        expected: numbers of any shape.
        got: of the same shape.
    """
    reference, values = expected.astype(np.float64), got.astype(np.float64)
    error = np.sqrt(np.mean((values - reference) ** 2))
    if error == 0:
        return MOST_PSNR_DB
    return float(np.minimum(20 * np.log10(max(float(np.ptp(reference)), 1e-12) / error), MOST_PSNR_DB))


def pixel_error(expected: Mapping[str, AnyArray], got: Mapping[str, AnyArray], rule: PixelRule) -> float:
    """Return the largest difference of the bytes in levels; infinite if the float image does not explain one.

    A byte may differ by one level where the float value lies as near to a step as the float images differ.

    Args:
        expected: ``pixels`` uint8[N, R, R, C] and ``image`` float32[N, C, R, R].
        got: the same of another runtime.
        rule: how floats became bytes.
    """
    image = expected["image"].astype(np.float64)
    levels = np.clip(image * 127.5 + (128 if rule == "round" else 127.5), 0, 255).transpose(0, 2, 3, 1)  # [N, H, W, C]
    reach = 127.5 * np.abs(got["image"].astype(np.float64) - image).max() + 1e-4  # the latter: rounding of the levels
    difference = np.abs(got["pixels"].astype(np.int16) - expected["pixels"].astype(np.int16))
    explained = np.abs(levels - np.rint(levels)) <= reach
    return float("inf") if (difference[~explained] > 0).any() else float(difference.max())


def _repeat(arrays: Mapping[str, NDArray[T]], size: int) -> dict[str, NDArray[T]]:
    return {name: array[np.arange(size) % len(array)] for name, array in arrays.items()}
