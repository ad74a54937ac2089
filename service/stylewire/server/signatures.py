"""The tensors that can be asked for by name: those of each graph, and of a model as a whole, from z to pixels."""

from dataclasses import dataclass
from typing import NamedTuple

from stylewire.errors import ModelNotFoundError
from stylewire.manifest import Manifest
from stylewire.server.backends import graph_kind
from stylewire.server.model import Model

WHOLE = ""
"""Stands for all graphs of a model as one."""
SEED_TYPES = ("UINT32", "INT64")
"""Every UINT32 is a seed; INT64 is what a list of Python's numbers becomes."""


class Spec(NamedTuple):
    """A tensor.

    Attributes:
        name: of the graph's input or output.
        datatype: as the Open Inference Protocol writes it.
        dims: its shape without the axis of the batch.
        optional: whether a request may leave it out.
        single: whether it is one number a row, so that its axis of 1 may be left out.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False
    single: bool = False

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row of the array that a graph gets."""
        return () if self.single else self.dims


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes in and what comes out.

    Attributes:
        inputs: all that a request may have.
        outputs: what it gets unless it asks for others.
        more_outputs: what it gets only if it asks.
    """

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    more_outputs: tuple[Spec, ...] = ()


def names(model: Model) -> list[str]:
    """List what can be asked for of a model: ``WHOLE`` where it has what that takes, then its graphs."""
    return [*([WHOLE] if "mapping" in model.graphs or not model.styled else []), *model.graphs]


def signature(model: Model, graph: str) -> Signature:
    """Describe a graph, or ``WHOLE``.

    Raises:
        ModelNotFoundError: the model has no such graph, or lacks a part of the whole.
    """
    if graph not in names(model):
        known = ", ".join(f"{model.name}.{each}" if each else model.name for each in names(model))
        asked = f"{model.name}.{graph[:80]}" if graph else model.name
        raise ModelNotFoundError(f"no model {asked!r}; there is {known}", resource=("inference.Model", asked))
    manifest = model.manifest
    match graph_kind(graph):
        case "mapping":
            return Signature(_latent(manifest), (Spec("w", "FP32", (manifest.w_dim,)),))
        case "synthesis":
            return Signature(_code(manifest), *_picture(manifest))
        case "generator":
            return Signature(_latent(manifest), *_picture(manifest))
        case "encoder":
            info = next(each for each in manifest.encoders if each.graph == graph)
            shape = info.input_channels, info.input_height_px, info.input_width_px
            code = Spec("w_plus", "FP32", (manifest.layer_count, manifest.w_dim))
            return Signature((Spec("image", "FP32", shape),), (code,))
        case _:
            return Signature(_whole(model), *_picture(manifest))


def _latent(manifest: Manifest) -> tuple[Spec, ...]:
    z = Spec("z", "FP32", (manifest.z_dim,))
    return (z, Spec("label", "FP32", (manifest.label_dim,))) if manifest.label_dim else (z,)


def _code(manifest: Manifest) -> tuple[Spec, ...]:
    code = Spec("w_plus", "FP32", (manifest.layer_count, manifest.w_dim))
    if not manifest.noise_size:
        return (code,)
    strength = Spec("noise_strength", "FP32", (1,), optional=True, single=True)
    return code, strength, Spec("noise", "FP32", (manifest.noise_size,), optional=True)


def _picture(manifest: Manifest) -> tuple[tuple[Spec, ...], tuple[Spec, ...]]:
    side, channels = manifest.resolution_px, manifest.image_channels
    pixels = Spec("pixels", "UINT8", (side, side, channels))
    return (pixels,), (Spec("image", "FP32", (channels, side, side)),)


def _whole(model: Model) -> tuple[Spec, ...]:
    z, *label = _latent(model.manifest)
    psi = [Spec("psi", "FP32", (1,), optional=True, single=True)] if model.styled else []
    return Spec("seed", SEED_TYPES[0], (1,), single=True), *label, z._replace(optional=True), *psi
