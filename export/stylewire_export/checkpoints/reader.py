"""The readers of files: the content decides the family; a kind that is known but not supported is refused by name."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from stylewire_export.checkpoints.config import (
    AnyGenerator,
    EncoderCheckpoint,
    GeneratorCheckpoint,
    PlainCheckpoint,
    StyleGan1Checkpoint,
)
from stylewire_export.checkpoints.containers.content import SUPPORTED, Content, read_content
from stylewire_export.checkpoints.families.anime import is_anime, read_anime
from stylewire_export.checkpoints.families.dcgan import FIRST_CONV, is_dcgan, read_dcgan
from stylewire_export.checkpoints.families.nvidia import is_nvidia, read_nvidia
from stylewire_export.checkpoints.families.psp import open_psp, read_decoder, read_encoder_part
from stylewire_export.checkpoints.families.rosinality import is_rosinality, read_rosinality
from stylewire_export.checkpoints.families.stylegan1 import is_stylegan1, read_stylegan1
from stylewire_export.checkpoints.families.tensorflow import is_tensorflow, read_tensorflow
from stylewire_export.checkpoints.generators import GeneratorTraits, build_generator
from stylewire_export.checkpoints.tensors import TensorRecord
from stylewire_export.errors import CheckpointError, quote, quote_all

_AVERAGES = ("g_ema", "g_running")
_LIVE = ("g", "generator", "netG")
_REFUSED: Mapping[str, Callable[[Mapping[str, object]], bool]] = {
    "a StyleGAN1 generator of another layout than rosinality's": lambda state: any(
        "progression.0." in name for name in state
    ),
    "a discriminator of DCGAN": lambda state: FIRST_CONV in state and "main.2.weight" in state,
    "a DCGAN generator of another layout than that of PyTorch's example": lambda state: (
        FIRST_CONV in state and "main.12.weight" in state
    ),
    "a StyleGAN3 generator": lambda state: any(name.startswith("synthesis.input.") for name in state),
    "a rosinality discriminator": lambda state: "final_linear.0.weight" in state and "convs.0.0.weight" in state,
}


def read_generator(path: Path) -> GeneratorCheckpoint:
    """Read the StyleGAN2 generator of a checkpoint without running anything in it.

    Args:
        path: file of NVIDIA, rosinality, pSp or e4e (of these two: the decoder), or an NVIDIA state dict in a .pt.

    Raises:
        CheckpointError: what the file is instead, or what is wrong with it, as one sentence.
    """
    checkpoint = read_any_generator(path)
    if not isinstance(checkpoint, GeneratorCheckpoint):
        raise CheckpointError(f"{path.name}: a generator of another kind ({checkpoint.family}) than StyleGAN2")
    return checkpoint


def read_any_generator(path: Path, *, resolution_px: int | None = None) -> AnyGenerator:
    """Read a generator of any supported kind without running anything in the file.

    Args:
        path: as for ``read_generator``, or a state dict of StyleGAN1, DCGAN or the generator of anime faces.
        resolution_px: of the image, where a file holds several (StyleGAN1); None takes the highest trained one.

    Raises:
        CheckpointError: what the file is instead, or what is wrong with it, as one sentence.
    """
    try:
        return _generator(read_content(path), resolution_px)
    except CheckpointError as err:
        raise CheckpointError(f"{path.name}: {err}") from err


def read_encoder(path: Path) -> EncoderCheckpoint:
    """Read the encoder of a pSp or e4e checkpoint without running anything in it.

    Raises:
        CheckpointError: what the file is instead, or what is wrong with it, as one sentence.
    """
    try:
        content = read_content(path)
        if file := open_psp(content.root, content.size_bytes):
            return read_encoder_part(file)
        kind = _generator(content).family
    except CheckpointError as err:
        raise CheckpointError(f"{path.name}: {err}") from err
    raise CheckpointError(f"{path.name}: a generator ({kind}) without an encoder; give a pSp or e4e .pt")


def _generator(content: Content, resolution_px: int | None = None) -> AnyGenerator:
    root, size = content.root, content.size_bytes
    if type(root) is tuple and is_tensorflow(root):
        return read_tensorflow(root, size)
    if type(root) is not dict:
        raise CheckpointError(f"its top level is {_described(root)}, not a dictionary; {SUPPORTED}")
    if is_nvidia(root):
        return read_nvidia(root, size)
    if file := open_psp(root, size):
        return read_decoder(file)
    return _from_state_dict(root, resolution_px, size)


def _from_state_dict(root: dict[str, object], resolution_px: int | None, size: int) -> AnyGenerator:
    """Read a file that holds a state dict, or several in a dictionary."""
    state, notes = _running_average(root)
    if is_rosinality(state):
        mean_w = root.get("latent_avg")
        if mean_w is not None and type(mean_w) is not TensorRecord:
            raise CheckpointError("a rosinality file whose latent_avg is no tensor")
        traits = GeneratorTraits(family="rosinality", notes=notes)
        return read_rosinality(_only_tensors(state), mean_w, traits, file_bytes=size)
    if "synthesis.b4.const" in state and "mapping.fc0.weight" in state:
        traits = GeneratorTraits(family="stylegan2-ada-pytorch state dict", notes=notes)
        return build_generator(_only_tensors(state), traits, file_bytes=size)
    if neighbor := _neighbor(state, resolution_px, size):
        return dataclasses.replace(neighbor, notes=(*notes, *neighbor.notes))
    for kind, matches in _REFUSED.items():
        if matches(state):
            raise CheckpointError(f"{kind}, which is not supported; {SUPPORTED}")
    names = quote_all(list(state), most=5, limit=60) or "nothing"
    raise CheckpointError(f"an unknown kind of checkpoint, which holds {names}; {SUPPORTED}")


def _neighbor(
    state: Mapping[str, object], resolution_px: int | None, size: int
) -> PlainCheckpoint | StyleGan1Checkpoint | None:
    """Read a generator of another architecture than StyleGAN2."""
    if is_stylegan1(state):
        return read_stylegan1(_only_tensors(state), resolution_px=resolution_px, file_bytes=size)
    if is_dcgan(state):
        return read_dcgan(_only_tensors(state), file_bytes=size)
    if is_anime(state):
        return read_anime(_only_tensors(state), file_bytes=size)
    return None


def _running_average(root: dict[str, object]) -> tuple[Mapping[str, object], tuple[str, ...]]:
    """Find the state dict of the generator and the notes about it: running average, live network, or whole file."""
    notes: tuple[str, ...] = ()
    state: dict[str, object] = root
    average = next((root[key] for key in _AVERAGES if type(root.get(key)) is dict), None)
    live = next((key for key in _LIVE if type(root.get(key)) is dict), None)
    if type(average) is dict:
        state = average
    elif live is not None and type(network := root[live]) is dict:
        state, notes = network, (f"the file has no running average g_ema: the live network {live} was taken",)
    names = [name for name in state if type(name) is str]
    if names and all(name.startswith("module.") for name in names):  # trained on several GPUs
        return {name.removeprefix("module."): state[name] for name in names}, notes
    return {name: state[name] for name in names}, notes


def _only_tensors(state: Mapping[str, object]) -> dict[str, TensorRecord]:
    records = {name: value for name, value in state.items() if type(value) is TensorRecord}
    if other := [name for name in state if name not in records]:
        raise CheckpointError(f"the state dict holds something that is no tensor: {quote(other[0])}")
    return records


def _described(root: object) -> str:
    if type(root) is TensorRecord:
        return f"one tensor of shape {list(root.shape)} (a file of codes?)"
    return {list: "a list", tuple: "a tuple", str: "text", int: "a number"}.get(type(root), "another object")
