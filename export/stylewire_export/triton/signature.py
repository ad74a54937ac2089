"""Inputs and outputs of a graph, by its manifest, and by its ONNX or TorchScript file.

Shape legend: N batch, Z z_dim, D w_dim, L layers, P noise values, C channels, R resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from stylewire.manifest import Manifest
from stylewire_export.errors import BundleError, quote
from stylewire_export.onnx_import.file import free_inputs
from stylewire_export.runners import open_graph_file

OPEN = -1
"""A side of any size."""
_ONNX_TYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.UINT8: "uint8"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output.

    Attributes:
        name: of it.
        data_type: numpy's name, ``float32`` or ``uint8``; any other type of a file under the file's own name.
        shape: behind the batch axis; empty for a number an item.
    """

    name: str
    data_type: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Show it as messages do."""
        sides = ", ".join("?" if side == OPEN else str(side) for side in ("N", *self.shape))
        return f"{self.name} {self.data_type}[{sides}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a graph, in the order of the traced module's."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def manifest_signature(manifest: Manifest, graph: str) -> Signature:
    """Derive the inputs and outputs that a graph of a model must have.

    Raises:
        BundleError: the manifest has no entry for this encoder.
    """
    z = Tensor("z", "float32", (manifest.z_dim,))
    latent = (z, Tensor("label", "float32", (manifest.label_dim,))) if manifest.label_dim else (z,)
    code = Tensor("w_plus", "float32", (manifest.layer_count, manifest.w_dim))
    noise = (Tensor("noise_strength", "float32", ()), Tensor("noise", "float32", (OPEN,)))
    side, channels = manifest.resolution_px, manifest.image_channels
    images = (Tensor("pixels", "uint8", (side, side, channels)), Tensor("image", "float32", (channels, side, side)))
    if graph == "mapping":
        return Signature(latent, (Tensor("w", "float32", (manifest.w_dim,)),))
    if graph == "synthesis":
        return Signature((code, *noise) if manifest.noise_size else (code,), images)
    if graph == "generator":
        return Signature(latent, images)
    encoder = next((each for each in manifest.encoders if each.graph == graph), None)
    if encoder is None:
        raise BundleError(f"{manifest.name}: model.json has a file of {graph} but no entry in encoders; export it anew")
    size = (encoder.input_channels, encoder.input_height_px, encoder.input_width_px)
    return Signature((Tensor("image", "float32", size),), (code,))


def broadcast_signature(manifest: Manifest) -> Signature:
    """Derive inputs and outputs of the step from w to the inputs of the synthesis."""
    w = manifest_signature(manifest, "mapping").outputs
    code, *noise = manifest_signature(manifest, "synthesis").inputs
    # One value an item stands for no noise but the stored one.
    return Signature(w, (code, *(replace(each, shape=tuple(map(abs, each.shape))) for each in noise)))


def onnx_signature(path: Path) -> Signature:
    """Read inputs and outputs of an ONNX file.

    Raises:
        BundleError: it is no ONNX file, or a tensor has no batch axis of any size.
    """
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as err:  # protobuf's exceptions have no class in common
        raise BundleError(f"{path} is no ONNX file: {quote(str(err))}") from err
    inputs, outputs = ([_onnx_tensor(path, value) for value in some] for some in (free_inputs(graph), graph.output))
    return Signature(tuple(inputs), tuple(outputs))


def torchscript_signature(path: Path, expected: Signature) -> Signature:
    """Find the outputs of a TorchScript file by running it on one item and on two.

    Such a file has no names and no shapes, so its inputs count as the expected ones if it runs on them.

    Raises:
        BundleError: it does not run on them, or has another number of outputs, or one without a batch axis.
    """
    run = open_graph_file(path, tuple(each.name for each in expected.inputs), tuple(t.name for t in expected.outputs))
    found: list[Signature] = []
    for size in (1, 2):
        zeros = {t.name: np.zeros((size, *(abs(side) for side in t.shape)), np.float32) for t in expected.inputs}
        try:
            got = run(zeros)
        except (RuntimeError, ValueError) as err:  # of PyTorch, and of zip
            takes = ", ".join(map(str, expected.inputs))
            raise BundleError(f"{path} does not take {takes}: {quote(str(err).splitlines()[-1])}") from err
        if any(array.ndim < 1 or len(array) != size for array in got.values()):
            raise BundleError(f"{path} has outputs without a row for each of {size} items")
        outputs = tuple(Tensor(name, array.dtype.name, array.shape[1:]) for name, array in got.items())
        found.append(Signature(expected.inputs, outputs))
    return found[0]


def differences(expected: Signature, found: Signature) -> list[str]:
    """List how a signature differs from the expected one; an open side of the found one fits any."""
    wrong = []
    pairs = (("input", expected.inputs, found.inputs), ("output", expected.outputs, found.outputs))
    for kind, expected_tensors, found_tensors in pairs:
        wrong += _differences(kind, expected_tensors, found_tensors)
    return wrong


def _differences(kind: str, expected: Sequence[Tensor], found: Sequence[Tensor]) -> list[str]:
    if [each.name for each in expected] != [each.name for each in found]:
        names = [", ".join(quote(each.name, 60) for each in some) or "none" for some in (found, expected)]
        return [f"its {kind}s are {names[0]} where {names[1]} are expected"]
    return [
        f"its {kind} is {theirs} where {ours} is expected"
        for ours, theirs in zip(expected, found, strict=True)
        if ours.data_type != theirs.data_type or not _fits(ours.shape, theirs.shape)
    ]


def _fits(expected: tuple[int, ...], found: tuple[int, ...]) -> bool:
    return len(expected) == len(found) and all(b in (OPEN, a) for a, b in zip(expected, found, strict=True))


def _onnx_tensor(path: Path, value: onnx.ValueInfoProto) -> Tensor:
    name, tensor = quote(value.name, 60), value.type.tensor_type
    sides = [dim.dim_value if dim.HasField("dim_value") else OPEN for dim in tensor.shape.dim]
    if not sides or sides[0] != OPEN:
        raise BundleError(f"{path}: {name} has no batch axis of any size, which Triton needs to batch")
    data_type = _ONNX_TYPES.get(tensor.elem_type) or onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return Tensor(value.name, data_type, tuple(sides[1:]))
