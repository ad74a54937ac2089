"""What a graph takes and gives, as its manifest says, and as an ONNX or TorchScript file says.

Shape legend: N batch, Z z_dim, D w_dim, L layers, P noise values, C channels, R resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from stylewire.manifest import Manifest
from stylewire_export.errors import BundleError, quote
from stylewire_export.runners import open_graph_file

OPEN = -1
"""A side of any size."""
_ONNX_TYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.UINT8: "uint8"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output.

    Attributes:
        name: of it.
        data_type: of numpy, ``float32`` or ``uint8``; what a file has otherwise is told in its own word.
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
    """What a graph takes and gives, in the order in which a traced module does."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def manifest_signature(manifest: Manifest, graph: str) -> Signature:
    """Say what a graph of a model has to take and give.

    Raises:
        BundleError: the manifest says nothing of this encoder.
    """
    z = Tensor("z", "float32", (manifest.z_dim,))
    latent = (z, Tensor("label", "float32", (manifest.label_dim,))) if manifest.label_dim else (z,)
    code = Tensor("w_plus", "float32", (manifest.layer_count, manifest.w_dim))
    noise = (Tensor("noise_strength", "float32", ()), Tensor("noise", "float32", (OPEN,)))
    side, channels = manifest.resolution_px, manifest.image_channels
    pictures = (Tensor("pixels", "uint8", (side, side, channels)), Tensor("image", "float32", (channels, side, side)))
    if graph == "mapping":
        return Signature(latent, (Tensor("w", "float32", (manifest.w_dim,)),))
    if graph == "synthesis":
        return Signature((code, *noise) if manifest.noise_size else (code,), pictures)
    if graph == "generator":
        return Signature(latent, pictures)
    encoder = next((each for each in manifest.encoders if each.graph == graph), None)
    if encoder is None:
        raise BundleError(f"{manifest.name}: model.json has a file of {graph} but no entry in encoders; export it anew")
    size = (encoder.input_channels, encoder.input_height_px, encoder.input_width_px)
    return Signature((Tensor("image", "float32", size),), (code,))


def broadcast_signature(manifest: Manifest) -> Signature:
    """Say what the step from w to the inputs of the synthesis takes and gives."""
    w = manifest_signature(manifest, "mapping").outputs
    code, *noise = manifest_signature(manifest, "synthesis").inputs
    # One value an item stands for no noise but the stored one.
    return Signature(w, (code, *(replace(each, shape=tuple(map(abs, each.shape))) for each in noise)))


def onnx_signature(path: Path) -> Signature:
    """Read what an ONNX file takes and gives.

    Raises:
        BundleError: it is no ONNX file, or a tensor has no batch axis of any size.
    """
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as err:  # protobuf's exceptions have no class in common
        raise BundleError(f"{path} is no ONNX file: {quote(str(err))}") from err
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    return Signature(
        tuple(_onnx_tensor(path, value) for value in inputs), tuple(_onnx_tensor(path, value) for value in graph.output)
    )


def torchscript_signature(path: Path, expected: Signature) -> Signature:
    """Find out what a TorchScript file gives for what it should take, by running it on one item and on two.

    Such a file has no names and no shapes, so its inputs are taken to be the expected ones if it takes them.

    Raises:
        BundleError: it does not take them, or gives another number of outputs, or one without a batch axis.
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
            raise BundleError(f"{path} gives outputs that do not have a row an item: {size} were given")
        outputs = tuple(Tensor(name, array.dtype.name, array.shape[1:]) for name, array in got.items())
        found.append(Signature(expected.inputs, outputs))
    return found[0]


def differences(expected: Signature, found: Signature) -> list[str]:
    """Say how a signature differs from what it should be; an open side of what is found fits any."""
    wrong = []
    pairs = (("input", expected.inputs, found.inputs), ("output", expected.outputs, found.outputs))
    for kind, wanted, given in pairs:
        wrong += _differences(kind, wanted, given)
    return wrong


def _differences(kind: str, wanted: Sequence[Tensor], given: Sequence[Tensor]) -> list[str]:
    if [each.name for each in wanted] != [each.name for each in given]:
        names = [", ".join(quote(each.name, 60) for each in some) or "none" for some in (given, wanted)]
        return [f"its {kind}s are {names[0]} where {names[1]} are expected"]
    return [
        f"its {kind} is {found} where {one} is expected"
        for one, found in zip(wanted, given, strict=True)
        if one.data_type != found.data_type or not _fits(one.shape, found.shape)
    ]


def _fits(wanted: tuple[int, ...], given: tuple[int, ...]) -> bool:
    return len(wanted) == len(given) and all(b in (OPEN, a) for a, b in zip(wanted, given, strict=True))


def _onnx_tensor(path: Path, value: onnx.ValueInfoProto) -> Tensor:
    name, tensor = quote(value.name, 60), value.type.tensor_type
    sides = [dim.dim_value if dim.HasField("dim_value") else OPEN for dim in tensor.shape.dim]
    if not sides or sides[0] != OPEN:
        raise BundleError(f"{path}: {name} has no batch axis of any size, which Triton needs to batch")
    data_type = _ONNX_TYPES.get(tensor.elem_type) or onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return Tensor(value.name, data_type, tuple(sides[1:]))
