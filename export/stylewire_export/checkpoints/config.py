"""What readers of checkpoints return: plain frozen values, whatever family the file belongs to.

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
        mapping_layer_count: fully connected layers of the mapping network.
        mapping_lr_multiplier: their equalized learning rate (Karras et al. 2019, appendix C).
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
        reduction: photos are reduced by this factor first; None for no or no fixed factor.
        layer_count: L.
        w_dim: D.
        state: name without the prefix ``encoder.`` -> contiguous float32 tensor, finite.
        latent_avg: float32[L, D] to add to the encoder's output; None where nothing is added.
        learn_in_w: the encoder was trained to return one w, repeated for all layers.
        notes: what a person should know about this file.
    """

    family: str
    encoder_type: EncoderType
    task: str
    input_kind: InputKind
    input_channels: int
    input_size_px: tuple[int, int]
    reduction: int | None = None
    layer_count: int
    w_dim: int
    state: dict[str, Tensor]
    latent_avg: Tensor | None
    learn_in_w: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DcganConfig:
    """Dimensions of a DCGAN generator.

    Attributes:
        input_dim: numbers that go in: z, for a conditional generator followed by the label.
        widths: channels that come out of every layer, from 4 px up; the last are the image's.
        biased: which of the layers have a bias; published ones have none, or one in the last layer.
    """

    input_dim: int
    widths: tuple[int, ...]
    biased: tuple[bool, ...]

    @property
    def resolution_px(self) -> int:
        """R: the first layer makes 4 px, every further one doubles them."""
        return 4 << (len(self.widths) - 1)

    @property
    def image_channels(self) -> int:
        """C, channels of the image."""
        return self.widths[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnimeConfig:
    """Dimensions of an SRResNet generator of anime faces.

    Attributes:
        input_dim: numbers that go in: z followed by the attributes.
        width: channels of the residual blocks.
        start_px: side of the maps that the dense layer makes.
        residual_count: residual blocks.
        up_widths: channels that come out of every up-sampling block.
        image_kernel_px: side of the last convolution's kernel.
    """

    input_dim: int
    width: int
    start_px: int
    residual_count: int
    up_widths: tuple[int, ...]
    image_kernel_px: int
    image_channels: int

    @property
    def resolution_px(self) -> int:
        """R: every up-sampling block doubles the first maps."""
        return self.start_px << len(self.up_widths)


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleGan1Config:
    """Dimensions of a StyleGAN1 generator.

    Attributes:
        z_dim: Z.
        mapping_widths: outputs of the mapping layers; the last is D.
        channels: (resolution in pixels, width) of every block, from 4 px up.
    """

    z_dim: int
    mapping_widths: tuple[int, ...]
    channels: tuple[tuple[int, int], ...]
    image_channels: int
    label_dim: Literal[0] = 0
    pixel_rule: PixelRule = "round"

    @property
    def w_dim(self) -> int:
        """D, width of the last mapping layer."""
        return self.mapping_widths[-1]

    @property
    def resolution_px(self) -> int:
        """R, of the last block."""
        return self.channels[-1][0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlainCheckpoint:
    """A generator without styles, as its file holds it.

    Attributes:
        family: whose layout it is.
        state: name -> contiguous float32 tensor, finite; names of the file.
        notes: what a person should know about this file.
    """

    family: str
    config: DcganConfig | AnimeConfig
    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StyleGan1Checkpoint:
    """A StyleGAN1 generator as its file holds it.

    Attributes:
        family: whose layout it is.
        state: names of ``stylewire_export.networks.stylegan1`` -> contiguous float32 tensor, finite, multiplied by the
            run-time gains.
        notes: what a person should know about this file.
    """

    family: str
    config: StyleGan1Config
    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


AnyGenerator = GeneratorCheckpoint | PlainCheckpoint | StyleGan1Checkpoint
