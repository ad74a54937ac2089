"""Two generators of one lineage -> one: the base draws the low resolutions, the fine-tuned one the high ones.

A layer's position is p = 2 (log2 r - 2) for what opens the block of r px (its constant or its up-sampling convolution),
and one more for its second convolution and its image output.
"""

import math
import re
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from stylewire_export.checkpoints.config import GeneratorCheckpoint, GeneratorConfig

_LAYER = re.compile(r"synthesis\.b(?P<resolution_px>\d+)\.(?P<layer>const|conv0|conv1|torgb)\b")
_UNTRAINED = ("noise_const", "resample_filter")
_MAPPING_FIELDS = frozenset(
    {"z_dim", "label_dim", "embed_dim", "layer_dim", "mapping_layer_count", "mapping_lr_multiplier", "label_concat"}
)
_STRUCTURE_FIELDS = frozenset(
    {"w_dim", "resolution_px", "image_channels", "architecture", "channels", "use_noise", "resample_filter"}
)
_FILTER_TOLERANCE = 1e-6  # families store the same filter with other gains


class BlendError(ValueError):
    """Two generators cannot be blended as asked; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendRule:
    """How much each tensor takes from the fine-tuned generator.

    Attributes:
        resolution_px: where the change from the base to the fine-tuned generator lies.
        level: 0, or 1 for one position further up.
        fade_width: None changes at once, from the second position after p = 2 (log2 resolution_px - 2) + level on: at
            16 px, level 0 begins with the up-sampling convolution to 32 px, level 1 with what follows it. A number
            fades instead: shares are logistic in the distance from p, and this is the distance of share 0.73.
        whole_blocks: take whole blocks from ``resolution_px`` on instead, their noise maps included.

    Source: the layer swapping of Pinkney and Adler 2020 (arXiv 2010.05334), as published for TensorFlow; whole blocks
    are the rule of many later ports.
    """

    resolution_px: int
    level: int = 0
    fade_width: float | None = None
    whole_blocks: bool = False

    def __post_init__(self) -> None:
        """Refuse rules that do not exist.

        Raises:
            BlendError: what to change.
        """
        if self.resolution_px < 4 or self.resolution_px & (self.resolution_px - 1):
            raise BlendError(f"the resolution {self.resolution_px} px is none of a generator: use 4, 8, 16 ...")
        if self.level not in {0, 1}:
            raise BlendError(f"the level {self.level} does not exist: use 0 or 1")
        if self.fade_width is not None and not (0 < self.fade_width < math.inf):
            raise BlendError(
                f"the fade width {self.fade_width} is not a positive number; leave it out to change at once"
            )
        if self.whole_blocks and (self.level or self.fade_width is not None):
            raise BlendError("whole blocks change at once and have no level: leave out --level and --fade")

    def share(self, name: str) -> float:
        """Return the share of the fine-tuned generator in a tensor, in [0, 1].

        The 4 px convolution, the mapping network, the mean of w, noise maps and residual branches stay with the base,
        unless whole blocks are taken.

        Args:
            name: of stylegan2-ada-pytorch, such as ``synthesis.b16.conv0.weight``.
        """
        if self.whole_blocks:
            block = re.match(r"synthesis\.b(\d+)\.", name)
            return float(block is not None and int(block[1]) >= self.resolution_px)
        match = _LAYER.match(name)
        if match is None or name.endswith(_UNTRAINED) or name.startswith("synthesis.b4.conv1."):
            return 0.0
        position = _position(int(match["resolution_px"])) + (match["layer"] in {"conv1", "torgb"})
        distance = position - _position(self.resolution_px) - self.level
        if self.fade_width is None:
            return float(distance > 1)
        return 0.5 * (1 + math.tanh(distance / (2 * self.fade_width)))  # the logistic function, without overflow


def blend(
    base: GeneratorCheckpoint, finetuned: GeneratorCheckpoint, rule: BlendRule, *, related: bool = False
) -> GeneratorCheckpoint:
    """Blend two generators.

    Args:
        base: source of the low resolutions, the mapping network and everything that no rule names.
        finetuned: source of the high resolutions.
        rule: which layers come from where.
        related: both take the same codes, by the word of the person who blends, though their mapping networks differ.

    Raises:
        BlendError: the generators differ in structure, their codes are not related, or nothing would change.
    """
    _check_structure(base.config, finetuned.config)
    _check_resolution(base.config, rule)
    if not related and not _same_mapping(base, finetuned):
        raise BlendError(
            "the mapping networks differ, so codes of one may mean nothing to the other; if one was fine-tuned from "
            "the other, or both from one parent, set --latent-space to an id of your choice"
        )
    state = {name: _mix(tensor, finetuned.state.get(name), rule.share(name)) for name, tensor in base.state.items()}
    return replace(base, state=state, notes=(*base.notes, *finetuned.notes, *_notes(base.config, finetuned.config)))


def _position(resolution_px: int) -> int:
    return 2 * (resolution_px.bit_length() - 3)


def _mix(base: Tensor, finetuned: Tensor | None, share: float) -> Tensor:
    if finetuned is None or share == 0:
        return base
    if share == 1:
        return finetuned
    return torch.lerp(base.double(), finetuned.double(), share).float()


def _check_structure(base: GeneratorConfig, finetuned: GeneratorConfig) -> None:
    for name in sorted(_STRUCTURE_FIELDS - {"resample_filter"}):
        ours, theirs = getattr(base, name), getattr(finetuned, name)
        if ours != theirs:
            raise BlendError(
                f"the generators have different structures: {name} is {ours} in BASE, {theirs} in FINETUNED"
            )
    ours, theirs = base.resample_filter, finetuned.resample_filter
    if len(ours) != len(theirs) or max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > _FILTER_TOLERANCE:
        raise BlendError(f"the generators have different up-sampling filters: {ours} in BASE, {theirs} in FINETUNED")


def _check_resolution(config: GeneratorConfig, rule: BlendRule) -> None:
    """Refuse a hard change at the last resolution: it would come after all layers."""
    last_px = config.resolution_px if rule.whole_blocks or rule.fade_width is not None else config.resolution_px // 2
    if rule.resolution_px > last_px:
        raise BlendError(
            f"a change at {rule.resolution_px} px leaves nothing to FINETUNED, as the generators draw "
            f"{config.resolution_px} px: use at most {last_px}"
        )


def _same_mapping(base: GeneratorCheckpoint, finetuned: GeneratorCheckpoint) -> bool:
    """Whether both map z and labels to the same w; the mean of w may drift in a fine-tuning."""
    if any(getattr(base.config, name) != getattr(finetuned.config, name) for name in _MAPPING_FIELDS):
        return False
    names = [name for name in base.state if name.startswith("mapping.") and name != "mapping.w_avg"]
    return all(torch.equal(base.state[name], finetuned.state[name]) for name in names)


def _notes(base: GeneratorConfig, finetuned: GeneratorConfig) -> list[str]:
    compared = _STRUCTURE_FIELDS | _MAPPING_FIELDS
    rest = [field.name for field in fields(base) if field.name not in compared]
    differing = [name for name in rest if getattr(base, name) != getattr(finetuned, name)]
    return [
        f"{name} is {getattr(base, name)} in BASE and {getattr(finetuned, name)} in FINETUNED: BASE's is used"
        for name in differing
    ]
