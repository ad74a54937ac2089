"""The tensors that can be asked for by name: those of each graph, and of a model as a whole, from z to pixels."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from weakref import WeakKeyDictionary

from stylewire.errors import ModelNotFoundError
from stylewire.manifest import Manifest
from stylewire.server.engine_api.graphs import graph_kind
from stylewire.server.engine_api.models import ModelInfo

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
        single: whether it is one number a row, so that its axis of 1 may be left out.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    single: bool = False

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row of the array that a graph gets."""
        return () if self.single else self.dims


@dataclass(frozen=True)
class Signature:
    """What goes in and what comes out.

    Attributes:
        inputs: what a request needs.
        more_inputs: what it may have besides, or, as z for the seed, instead.
        outputs: what it gets unless it asks for others.
        more_outputs: what it gets only if it asks.
    """

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    more_inputs: tuple[Spec, ...] = ()
    more_outputs: tuple[Spec, ...] = ()

    @cached_property
    def all_inputs(self) -> dict[str, Spec]:
        """All that a request may have, by name."""
        return {spec.name: spec for spec in (*self.inputs, *self.more_inputs)}

    @cached_property
    def all_outputs(self) -> dict[str, Spec]:
        """All that it may ask for, by name."""
        return {spec.name: spec for spec in (*self.outputs, *self.more_outputs)}


_made: "WeakKeyDictionary[ModelInfo, dict[str, Signature]]" = WeakKeyDictionary()
"""Of the models that there are: making one again for each request would cost more than reading the request."""


def names(model: ModelInfo) -> list[str]:
    """List what can be asked for of a model: ``WHOLE`` where it has what that takes, then its graphs."""
    whole = not model.styled or {"mapping", "synthesis"} <= set(model.graphs)
    return [*([WHOLE] if whole else []), *model.graphs]


def signature(model: ModelInfo, graph: str) -> Signature:
    """Describe a graph, or ``WHOLE``.

    Raises:
        ModelNotFoundError: the model has no such graph, or lacks a part of the whole.
    """
    made = _made.setdefault(model, {})
    if graph not in made:
        made[graph] = _make(model, graph)
    return made[graph]


def _make(model: ModelInfo, graph: str) -> Signature:
    if graph not in names(model):
        known = ", ".join(f"{model.name}.{each}" if each else model.name for each in names(model))
        asked = f"{model.name}.{graph[:80]}" if graph else model.name
        raise ModelNotFoundError(f"no model {asked!r}; there is {known}", resource=("inference.Model", asked))
    manifest = model.manifest
    code = Spec("w_plus", "FP32", (manifest.layer_count, manifest.w_dim))
    inputs: tuple[Spec, ...]
    more_inputs: tuple[Spec, ...] = ()
    match graph_kind(graph):
        case "mapping":
            return Signature(_latent(manifest), (Spec("w", "FP32", (manifest.w_dim,)),))
        case "encoder":
            info = next(each for each in manifest.encoders if each.graph == graph)
            shape = info.input_channels, info.input_height_px, info.input_width_px
            return Signature((Spec("image", "FP32", shape),), (code,))
        case "synthesis":
            inputs, more_inputs = (code,), _noise(manifest)
        case "generator":
            inputs = _latent(manifest)
        case _:
            z, *label = _latent(manifest)
            inputs = Spec("seed", SEED_TYPES[0], (1,), single=True), *label
            more_inputs = (z, Spec("psi", "FP32", (1,), single=True)) if model.styled else (z,)
    side, channels = manifest.resolution_px, manifest.image_channels
    pixels, image = Spec("pixels", "UINT8", (side, side, channels)), Spec("image", "FP32", (channels, side, side))
    return Signature(inputs, (pixels,), more_inputs, (image,))


def _latent(manifest: Manifest) -> tuple[Spec, ...]:
    z = Spec("z", "FP32", (manifest.z_dim,))
    return (z, Spec("label", "FP32", (manifest.label_dim,))) if manifest.label_dim else (z,)


def _noise(manifest: Manifest) -> tuple[Spec, ...]:
    if not manifest.noise_size:
        return ()
    return Spec("noise_strength", "FP32", (1,), single=True), Spec("noise", "FP32", (manifest.noise_size,))
