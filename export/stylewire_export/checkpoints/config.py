"""What reading a checkpoint gives: plain frozen values, whatever family the file belongs to.

Shape legend: Z z_dim, D w_dim, L rows of a w+ code, H W pixels.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Architecture = Literal["skip", "resnet", "orig"]
PixelRule = Literal["round", "truncate"]
InputKind = Literal["photo", "labels", "sketch"]
EncoderType = Literal[
    "GradualStyleEncoder",
    "Encoder4Editing",
    "BackboneEncoderUsingLastLayerIntoW",
    "BackboneEncoderUsingLastLayerIntoWPlus",
    "SingleStyleCodeEncoder",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """Dimensions and constants of a StyleGAN2 generator.

    Attributes:
        z_dim: Z.
        w_dim: D.
        label_dim: classes of a conditional generator, 0 without labels.
        embed_dim: width of the label's embedding, 0 without labels.
        layer_dim: width of the hidden mapping layers.
        label_concat: the label is embedded without bias and normalized together with z (TensorFlow StyleGAN2).
        channels: (resolution in pixels, width) of every block, from 4 px up.
        conv_clamp: limit of activations, None for no limit.
        use_noise: the layers have noise inputs.
        resample_filter: taps of the up-sampling filter, sum 1.
        fp16_resolution_count: how many blocks the file wants in half precision; informative, float32 is exact.
        pixel_rule: how the family's tools turn floats into bytes.
    """

    z_dim: int
    w_dim: int
    label_dim: int
    embed_dim: int
    layer_dim: int
    mapping_layer_count: int
    mapping_lr_multiplier: float = 0.01
    label_concat: bool = False
    resolution_px: int
    image_channels: int
    architecture: Architecture
    channels: tuple[tuple[int, int], ...]
    conv_clamp: float | None = None
    use_noise: bool
    resample_filter: tuple[float, ...]
    fp16_resolution_count: int = 0
    pixel_rule: PixelRule = "round"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneratorCheckpoint:
    """A generator as its file holds it.

    Attributes:
        family: whose file format it is, for example "stylegan2-ada-pytorch".
        state: name -> contiguous float32 tensor, finite; names of stylegan2-ada-pytorch, whatever the family.
        has_w_avg: ``mapping.w_avg`` is in ``state``; where not, the mean of w must be sampled.
        notes: what a person should know about this file.
    """

    family: str
    config: GeneratorConfig
    state: dict[str, Tensor]
    has_w_avg: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncoderCheckpoint:
    """A pSp or e4e encoder as its file holds it.

    Attributes:
        family: "pixel2style2pixel" or "encoder4editing".
        task: what the encoder was trained for: encode, frontalize, sketch, seg or super_resolution.
        input_size_px: (H, W).
        layer_count: L.
        w_dim: D.
        state: name without the prefix ``encoder.`` -> contiguous float32 tensor, finite.
        latent_avg: float32[L, D] to add to the encoder's output; None where nothing is added.
        learn_in_w: the encoder was trained to give one w, repeated for all layers.
        notes: what a person should know about this file.
    """

    family: str
    encoder_type: EncoderType
    task: str
    input_kind: InputKind
    input_channels: int
    input_size_px: tuple[int, int]
    layer_count: int
    w_dim: int
    state: dict[str, Tensor]
    latent_avg: Tensor | None
    learn_in_w: bool
    notes: tuple[str, ...] = ()
