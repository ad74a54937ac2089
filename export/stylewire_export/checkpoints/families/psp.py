"""Files of pixel2style2pixel (pSp) and encoder4editing (e4e): an encoder and the generator that it was trained for.

Source: format notes 2, sections 2.1, 2.2 and 2.5; options that are absent mean what they mean in the originals.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import log2

from torch import Tensor

from stylewire_export.checkpoints.config import EncoderCheckpoint, EncoderType, GeneratorCheckpoint, InputKind
from stylewire_export.checkpoints.encoder_layout import EncoderLayout, infer_encoder
from stylewire_export.checkpoints.families.rosinality import read_rosinality
from stylewire_export.checkpoints.generators import GeneratorTraits
from stylewire_export.checkpoints.pickles.safe_globals import AttributeRecord
from stylewire_export.checkpoints.shapes import COUNTER
from stylewire_export.checkpoints.tensors import TensorRecord, to_tensors
from stylewire_export.errors import CheckpointError, quote

DEFAULT_RESOLUTION_PX = 1024  # set by the originals' inference scripts where the file says nothing
MAX_LAYERS = 20
MIN_PYRAMID_STYLES = 7
MIN_INPUT_PX = 32
MAX_REDUCTION = 32  # the largest factor of the originals
_TASKS = {  # dataset_type -> task
    "ffhq_encode": "encode",
    "ffhq_frontalize": "frontalize",
    "celebs_sketch_to_face": "sketch",
    "celebs_seg_to_face": "seg",
    "celebs_super_resolution": "super_resolution",
    "cars_encode": "encode",
    "horse_encode": "encode",
    "church_encode": "encode",
    "cats_encode": "encode",
}
_CARS_INPUT_PX = (192, 256)
_TYPES_BY_HEAD: Mapping[str, tuple[EncoderType, ...]] = {  # pSp's default first, e4e's default last
    "pyramid": ("GradualStyleEncoder", "Encoder4Editing"),
    "w": ("BackboneEncoderUsingLastLayerIntoW", "SingleStyleCodeEncoder"),
    "w_plus": ("BackboneEncoderUsingLastLayerIntoWPlus",),
}


@dataclass(frozen=True, slots=True, eq=False)
class PspFile:
    """The parts of a file that matter."""

    state: Mapping[str, TensorRecord]
    options: Mapping[str, object]
    latent_avg: TensorRecord | None
    size_bytes: int

    @property
    def family(self) -> str:
        """Only e4e writes ``stylegan_size``."""
        return "encoder4editing" if "stylegan_size" in self.options else "pixel2style2pixel"

    def part(self, prefix: str) -> dict[str, TensorRecord]:
        """Return the tensors below a prefix, without it."""
        names = (name for name in self.state if name.startswith(prefix))
        return {name.removeprefix(prefix): self.state[name].labeled(name) for name in names}

    def option(self, key: str, default: int) -> int:
        """Return an option that is a whole number from 0 to 2^16.

        Raises:
            CheckpointError: it is something else.
        """
        value = self.options.get(key, default)
        if type(value) is not int or not 0 <= value <= 2**16:
            raise CheckpointError(f"the option {key} is {quote(value)}, where a whole number is expected")
        return value


def open_psp(root: object, size_bytes: int) -> PspFile | None:
    """Recognize a file of pSp or e4e by the prefixes of its tensors; None if it is another.

    Raises:
        CheckpointError: it is such a file, but its options, state or latent_avg are of other types.
    """
    if type(root) is not dict or type(state := root.get("state_dict")) is not dict:
        return None
    names = [name for name in state if type(name) is str]
    if not names or len(names) != len(state) or not all(name.startswith(("encoder.", "decoder.")) for name in names):
        return None
    options = root.get("opts", {})
    if type(options) is AttributeRecord:  # forks pickle the argparse.Namespace itself
        options = options.state
    latent_avg = root.get("latent_avg")
    if type(options) is not dict or any(type(record) is not TensorRecord for record in state.values()):
        raise CheckpointError("a pSp or e4e file whose options are no dictionary, or whose state holds no tensors")
    if latent_avg is not None and type(latent_avg) is not TensorRecord:
        raise CheckpointError("a pSp or e4e file whose latent_avg is no tensor")
    return PspFile(state, options, latent_avg, size_bytes)


def read_decoder(file: PspFile) -> GeneratorCheckpoint:
    """Read the generator inside; its center of truncation is latent_avg, if that is one w repeated.

    Raises:
        CheckpointError: there is none, or it is incomplete.
    """
    mean_w = None
    notes: tuple[str, ...] = ()
    if file.latent_avg is not None and _is_one_row(file.latent_avg):
        mean_w = _first_row(file.latent_avg)
        notes = ("the mean of w is the file's latent_avg",)
    state = file.part("decoder.")
    if not state:
        raise CheckpointError("a pSp or e4e file without a decoder; give the generator's own checkpoint")
    traits = GeneratorTraits(family=f"{file.family}-decoder", pixel_rule="truncate", notes=notes)
    return read_rosinality(state, mean_w, traits, file_bytes=file.size_bytes)


def read_encoder_part(file: PspFile) -> EncoderCheckpoint:
    """Read the encoder inside.

    Raises:
        CheckpointError: there is none, it is incomplete, or the options contradict its tensors.
    """
    records = file.part("encoder.")
    if not records:
        raise CheckpointError("a pSp or e4e file without an encoder")
    layout = infer_encoder({name: record.shape for name, record in records.items()})
    layer_count = _layer_count(file, layout)
    input_kind = _input_kind(file, layout)
    task, notes = _task(file, input_kind)
    reduction, reduction_notes = _reduction(file) if (task, input_kind) == ("super_resolution", "photo") else (None, ())
    used = {name: record for name, record in records.items() if not name.endswith(COUNTER)}
    state, tensor_notes = to_tensors(used, file_bytes=file.size_bytes)
    for name, tensor in state.items():
        if name.endswith(".running_var") and bool((tensor < 0).any()):
            raise CheckpointError(f"tensor {quote(name)} holds negative variances: the file is damaged")
    latent_avg, average_notes = _latent_avg(file, layout, layer_count)
    return EncoderCheckpoint(
        family=file.family,
        encoder_type=_encoder_type(file, layout),
        task=task,
        input_kind=input_kind,
        input_channels=layout.input_channels,
        input_size_px=_input_size(file, layout),
        reduction=reduction,
        layer_count=layer_count,
        w_dim=layout.w_dim,
        state=state,
        latent_avg=latent_avg,
        learn_in_w=bool(file.options.get("learn_in_w")),
        notes=(*notes, *reduction_notes, *average_notes, *tensor_notes),
    )


def _encoder_type(file: PspFile, layout: EncoderLayout) -> EncoderType:
    """Choose by the options: the two pyramids have the same tensors, and so have the two single-w encoders."""
    possible = _TYPES_BY_HEAD[layout.head]
    default = possible[-1] if file.family == "encoder4editing" else possible[0]
    named = file.options.get("encoder_type", default)
    for encoder_type in possible:
        if named == encoder_type:
            return encoder_type
    raise CheckpointError(
        f"the options name the encoder {quote(named)}, but its tensors make it {' or '.join(possible)}"
    )


def _layer_count(file: PspFile, layout: EncoderLayout) -> int:
    """Count the rows of the code by the tensors; the options that name a number must agree."""
    counts: dict[str, int] = {}
    if layout.head != "w":
        counts["the encoder's heads"] = layout.style_count
    if decoder_blocks := sum(
        name.startswith("decoder.to_rgbs.") for name in file.state if name.endswith("conv.weight")
    ):
        counts["the decoder"] = 2 * decoder_blocks + 2
    if "n_styles" in file.options:
        counts["n_styles"] = file.option("n_styles", 0)
    for key in ("output_size", "stylegan_size"):
        if key in file.options:
            counts[key] = _layers_of(file.option(key, DEFAULT_RESOLUTION_PX))
    counts = counts or {"the default": _layers_of(DEFAULT_RESOLUTION_PX)}
    first, count = next(iter(counts.items()))
    for source, other in counts.items():
        if other != count:
            raise CheckpointError(f"{first} stands for {count} style layers, but {source} for {other}")
    if not 4 <= count <= MAX_LAYERS or (layout.head == "pyramid" and count < MIN_PYRAMID_STYLES):
        raise CheckpointError(f"an encoder of {count} style layers is not supported (up to {MAX_LAYERS} are)")
    return count


def _layers_of(resolution_px: int) -> int:
    if resolution_px < 8 or resolution_px & (resolution_px - 1):
        raise CheckpointError(f"the options name the resolution {resolution_px} px, which is no power of two")
    return 2 * int(log2(resolution_px)) - 2


def _input_kind(file: PspFile, layout: EncoderLayout) -> InputKind:
    labels, channels = file.option("label_nc", 0), layout.input_channels
    if file.option("input_nc", channels) != channels or channels != (labels or 3):
        raise CheckpointError(
            f"the encoder takes {channels} channels, but the options say input_nc "
            f"{quote(file.options.get('input_nc', 3))} and label_nc {labels}"
        )
    if labels == 0:
        return "photo"
    return "sketch" if labels == 1 else "labels"


def _task(file: PspFile, input_kind: InputKind) -> tuple[str, tuple[str, ...]]:
    dataset = file.options.get("dataset_type", "ffhq_encode" if input_kind == "photo" else None)
    if isinstance(dataset, str) and dataset in _TASKS:
        return _TASKS[dataset], ()
    task = {"photo": "encode", "sketch": "sketch", "labels": "seg"}[input_kind]
    return task, (f"dataset_type {quote(dataset)} is unknown: taken as the task {task}, from the kind of input",)


def _reduction(file: PspFile) -> tuple[int | None, tuple[str, ...]]:
    """Return the one factor of a super-resolution encoder; of several, the originals draw one at random per photo."""
    factors = file.options.get("resize_factors")
    factor = factors[0] if type(factors) is list and len(factors) == 1 else factors
    if type(factor) is str and re.fullmatch(r"\d{1,3}", factor.strip(), re.ASCII):
        factor = int(factor)
    if type(factor) is int and 1 <= factor <= MAX_REDUCTION:
        return factor, ()
    note = (
        f"resize_factors {quote(factors)} is no single factor of super-resolution: photos are taken as they are, small "
        "by nature; to have them reduced as in the training, set encoders.reduction in model.json"
    )
    return None, (note,)


def _input_size(file: PspFile, layout: EncoderLayout) -> tuple[int, int]:
    """Return (H, W): the option ``input_size`` of this project, or what the originals always resize to."""
    nominal = layout.nominal_input_px
    cars = file.options.get("dataset_type") == "cars_encode"
    size = file.options.get("input_size", list(_CARS_INPUT_PX) if cars else [nominal, nominal])
    sides = tuple(size) if isinstance(size, list | tuple) else ()
    if len(sides) != 2 or any(type(side) is not int or not MIN_INPUT_PX <= side <= nominal for side in sides):
        # above the nominal side, heads see maps larger than one pixel, and the originals mix up the batch
        raise CheckpointError(
            f"the input size {quote(size)} is not supported ({MIN_INPUT_PX} to {nominal} px are, as height and width)"
        )
    return sides[0], sides[1]


def _latent_avg(file: PspFile, layout: EncoderLayout, layer_count: int) -> tuple[Tensor | None, tuple[str, ...]]:
    """Convert latent_avg, in any of its shapes in use, to float32[L, D]."""
    record, learned_in_w = file.latent_avg, bool(file.options.get("learn_in_w"))
    if learned_in_w and layout.head != "w":
        raise CheckpointError("learn_in_w is set for an encoder that gives a code for every layer: not supported")
    if record is None:
        if file.options.get("start_from_latent_avg"):
            raise CheckpointError("start_from_latent_avg is set, but the file has no latent_avg to add to the codes")
        return None, ()
    if not file.options.get("start_from_latent_avg", True):
        return None, ("latent_avg is in the file but not added, as start_from_latent_avg is off",)
    if len(record.shape) == 3:
        record = record.squeezed(0)
    if record.shape not in ((layout.w_dim,), (1, layout.w_dim), (layer_count, layout.w_dim)):
        raise CheckpointError(f"latent_avg has shape {list(record.shape)}, which fits no code of [{layer_count}, D]")
    if learned_in_w and not _is_one_row(record):
        raise CheckpointError("latent_avg has different rows, but learn_in_w gives one w for all layers")
    tensors, notes = to_tensors({"latent_avg": record}, file_bytes=file.size_bytes)
    rows = tensors["latent_avg"].reshape(-1, layout.w_dim)
    return rows.expand(layer_count, layout.w_dim).contiguous(), tuple(notes)


def _is_one_row(record: TensorRecord) -> bool:
    """Whether [D], [1, D], [L, D] or [1, L, D] holds one row, maybe repeated."""
    if not record.shape or 0 in record.shape:
        return False
    rows = record.to_array().reshape(-1, record.shape[-1])
    return bool((rows == rows[0]).all())


def _first_row(record: TensorRecord) -> TensorRecord:
    return TensorRecord(record.storage, record.offset, record.shape[-1:], record.stride[-1:])
