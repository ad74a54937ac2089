"""Graph files against PyTorch at export, and against the stored check vectors at any later time.

Every file is run at batch sizes 1, 2 and 5, since a traced constant shows only at another size than the traced one.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from stylewire.latents import Array
from stylewire.manifest import ArtifactCheck, Manifest
from stylewire_export.errors import quote
from stylewire_export.graphs import Graph, PixelRule

CHECK_FILE = "check.npz"
BATCH_SIZES = (1, 2, 5)
LIMITS = {"w": 1e-5, "w_plus": 1e-4, "image": 2e-4, "pixels": 1.0}
"""Output -> largest error accepted: relative to the output's range; for pixels in levels, and at rounding ties only."""

AnyArray = NDArray[np.generic]
Run = Callable[[Mapping[str, Array]], dict[str, AnyArray]]
T = TypeVar("T", bound=np.generic)


class VerificationError(Exception):
    """A graph file does not compute what the checkpoint computes; the message names file, output, error and limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What verification found out about one graph file; ``problems`` is empty for a good one."""

    check: ArtifactCheck
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs of one batch and what PyTorch makes of them."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, AnyArray]


def reference_cases(graph: Graph) -> list[Case]:
    """Run the PyTorch module at every batch size; one reference serves all files of a graph."""
    examples = [graph.examples(size) for size in BATCH_SIZES]
    return [Case(values, graph.run(values)) for values in examples]


def verify_graph(graph: Graph, path: Path, cases: Sequence[Case], rule: PixelRule) -> ArtifactCheck:
    """Compare a fresh graph file with the PyTorch module it was traced from.

    Raises:
        VerificationError: the file differs from the module.
    """
    report = _compare(path, open_graph_file(path, graph.inputs, graph.outputs), cases, rule)
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
    for suffix in (".onnx", ".pt"):
        for graph in manifest.graphs(suffix):
            inputs, outputs = vectors[graph]
            cases = [Case(_repeat(inputs, size), _repeat(outputs, size)) for size in BATCH_SIZES]
            reports.append(check_graph_file(directory / f"{graph}{suffix}", cases, manifest.pixel_rule))
    return reports


def check_graph_file(path: Path, cases: Sequence[Case], rule: PixelRule) -> FileReport:
    """Compare a graph file with known inputs and outputs, both in the graph's order, one case a batch size.

    Raises:
        VerificationError: an ONNX file has other inputs or outputs, or a fixed batch size.
    """
    return _compare(path, open_graph_file(path, tuple(cases[0].inputs), tuple(cases[0].outputs)), cases, rule)


def write_check_vectors(graphs: list[Graph], path: Path) -> None:
    """Store the two-item example of every graph with what PyTorch computes from it."""
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


def open_graph_file(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Run:
    """Open an ONNX or TorchScript file on the CPU.

    Raises:
        VerificationError: an ONNX file has other inputs or outputs, or a fixed batch size.
    """
    return _open_onnx(path, inputs, outputs) if path.suffix == ".onnx" else _open_torchscript(path, inputs, outputs)


def open_foreign_onnx(content: bytes) -> Run:
    """Open an ONNX model of somebody else on the CPU, with whatever inputs and outputs it has.

    Raises:
        VerificationError: onnxruntime refuses it, now or when it runs.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is said once, by the exception
    session = _refusable(lambda: onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]))
    names = [node.name for node in session.get_outputs()]

    def run(values: Mapping[str, Array]) -> dict[str, AnyArray]:
        got = _refusable(lambda: session.run(names, dict(values)))
        return dict(zip(names, got, strict=True))

    return run


def _refusable(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as err:  # onnxruntime's exceptions have no class in common
        raise VerificationError(f"onnxruntime refuses it: {quote(str(err).splitlines()[0])}") from err


def _open_onnx(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Run:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = [(node.name, node.type, isinstance(node.shape[0], str)) for node in session.get_inputs()]
    wanted = [(name, "tensor(float)", True) for name in inputs]
    found += [(node.name, node.type, isinstance(node.shape[0], str)) for node in session.get_outputs()]
    wanted += [(name, "tensor(uint8)" if name == "pixels" else "tensor(float)", True) for name in outputs]
    if found != wanted:
        raise VerificationError(f"{path.name} has (name, type, dynamic batch) {found}; expected {wanted}")

    def run(values: Mapping[str, Array]) -> dict[str, AnyArray]:
        return dict(zip(outputs, session.run(list(outputs), dict(values)), strict=True))

    return run


def _open_torchscript(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Run:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # torch's own

    def run(values: Mapping[str, Array]) -> dict[str, AnyArray]:
        with torch.inference_mode():
            got = module(*(torch.from_numpy(values[name]) for name in inputs))
        tensors = got if isinstance(got, tuple) else (got,)
        return {name: tensor.numpy() for name, tensor in zip(outputs, tensors, strict=True)}

    return run


def _compare(path: Path, run: Run, cases: Sequence[Case], rule: PixelRule) -> FileReport:
    errors: dict[str, float] = {}
    problems: list[str] = []
    for size, case in zip(BATCH_SIZES, cases, strict=True):
        got = run(case.inputs)
        for name, reference in case.outputs.items():
            if got[name].shape != reference.shape or got[name].dtype != reference.dtype:
                problems.append(f"{name} at batch {size} is {got[name].dtype}{got[name].shape}, not {reference.shape}")
                continue
            error = relative_error(reference, got[name]) if name != "pixels" else pixel_error(case.outputs, got, rule)
            errors[name] = max(error, errors.get(name, 0.0))
            if not error <= LIMITS[name]:  # not "error > limit": NaN must fail
                problems.append(f"{name} at batch {size} is off by {error:.2g}, limit {LIMITS[name]:.2g}")
    check = ArtifactCheck(file=path.name, batch_sizes=BATCH_SIZES, errors=errors)
    return FileReport(check=check, problems=tuple(problems))


def relative_error(expected: AnyArray, got: AnyArray) -> float:
    """Largest absolute difference, relative to the range of the expected values; NaN if anything is NaN."""
    reference, values = expected.astype(np.float64), got.astype(np.float64)
    return float(np.abs(values - reference).max() / max(float(np.ptp(reference)), 1e-12))


def pixel_error(expected: Mapping[str, AnyArray], got: Mapping[str, AnyArray], rule: PixelRule) -> float:
    """Largest difference of the bytes in levels; infinite if a byte differs that the float image does not explain.

    A byte may differ by one level where the float value lies as near to a step as the float images differ.
    """
    image = expected["image"].astype(np.float64)
    levels = np.clip(image * 127.5 + (128 if rule == "round" else 127.5), 0, 255).transpose(0, 2, 3, 1)  # [N, H, W, C]
    reach = 127.5 * np.abs(got["image"].astype(np.float64) - image).max() + 1e-4  # the latter: rounding of the levels
    difference = np.abs(got["pixels"].astype(np.int16) - expected["pixels"].astype(np.int16))
    explained = np.abs(levels - np.rint(levels)) <= reach
    return float("inf") if (difference[~explained] > 0).any() else float(difference.max())


def _repeat(arrays: Mapping[str, NDArray[T]], size: int) -> dict[str, NDArray[T]]:
    return {name: array[np.arange(size) % len(array)] for name, array in arrays.items()}
