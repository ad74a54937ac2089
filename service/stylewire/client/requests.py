"""Requests from plain arguments, shared by both clients; the counterpart of ``results.py``."""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, TypedDict, Unpack, get_args

from stylewire import pb
from stylewire.client.inputs import (
    Alignment,
    LatentLike,
    NoiseMode,
    PhotoLike,
    Resolutions,
    Style,
    check_word,
    image_source,
    style,
    to_latent,
    to_latents,
    to_layer_range,
    to_noise,
)

FileFormat: TypeAlias = Literal["png", "jpeg", "webp"]
Format: TypeAlias = FileFormat | Literal["pixels", "tensor"]
Method: TypeAlias = Literal["lerp", "slerp", "cubic"]
Easing: TypeAlias = Literal["linear", "ease_in", "ease_out", "ease_in_out"]
_FORMATS = ("png", "jpeg", "webp", "pixels", "tensor")
Styles: TypeAlias = Style | LatentLike | Iterable[Style | LatentLike]


class OutputOptions(TypedDict, total=False):
    """The form of returned pictures.

    Attributes:
        format: ``png`` (the default), ``jpeg``, ``webp``, ``pixels`` (uint8 without a file around) or ``tensor`` (the
            network's own float32).
        quality: for ``jpeg`` and ``webp``, in [1, 100]; 90 by default.
        resolution_px: width and height, at most the model's own, which is the default.
    """

    format: Format
    quality: int | None
    resolution_px: int | None


class PictureOptions(OutputOptions, total=False):
    """What every call that makes pictures takes.

    Attributes:
        model: the model's name; the server's default model by default.
        psi: truncation of the latents that have none of their own; none by default.
        noise: ``const`` (the default), ``none``, ``random``, or what ``stylewire.noise`` returns.
    """

    model: str
    psi: float | None
    noise: NoiseMode | pb.Noise


class GenerateOptions(PictureOptions, total=False):
    """What ``Client.generate`` takes besides latents.

    Attributes:
        return_codes: also ask for the w+ codes.
    """

    return_codes: bool


class MixOptions(PictureOptions, total=False):
    """What ``Client.mix_styles`` takes besides content and styles.

    Attributes:
        return_code: also ask for the mixed w+ code.
    """

    return_code: bool


class InterpolateOptions(PictureOptions, total=False):
    """What ``Client.interpolate`` takes besides keyframes and their number.

    Attributes:
        method: ``lerp`` in w+ (the default), ``slerp`` in z, or ``cubic``.
        easing: how time runs between keyframes; ``linear`` by default.
        looped: return to the first keyframe, which is not repeated at the end.
        return_codes: also ask for each frame's w+ code.
    """

    method: Method
    easing: Easing
    looped: bool
    return_codes: bool


class InvertOptions(OutputOptions, total=False):
    """What ``Client.invert`` takes besides the picture.

    Attributes:
        model: the model whose encoder is used; the server's default model by default.
        encoder: which encoder; by default the model's only one, or the one named ``encoder``.
        landmarks: 68 points (x, y) of a face in pixels of the picture, iBUG order, or 5: see ``pb.Landmarks``.
        align: ``face`` or True crops the face of a person as the FFHQ data set does, by ``landmarks`` or where the
            server finds one; ``anime`` crops that of a drawing.
        return_reconstruction: also ask for the generator's picture of the code, and its distortion.
        refine_steps: steps that improve the encoder's answer on the server, which needs PyTorch for it; 0 by default.
    """

    model: str
    encoder: str
    landmarks: Sequence[tuple[float, float]] | None
    align: bool | Alignment
    return_reconstruction: bool
    refine_steps: int


def generate_request(
    latents: LatentLike | Iterable[LatentLike],
    *,
    model: str = "",
    psi: float | None = None,
    noise: NoiseMode | pb.Noise = "const",
    return_codes: bool = False,
    **output: Unpack[OutputOptions],
) -> pb.GenerateRequest:
    """Make the request of ``Client.generate``; see ``GenerateOptions``."""
    return pb.GenerateRequest(
        model=model,
        latents=to_latents(latents, psi),
        noise=to_noise(noise),
        output_config=output_config(**output),
        return_codes=return_codes,
    )


def invert_request(  # noqa: PLR0913 - the request's fields, keyword-only
    picture: PhotoLike,
    *,
    model: str = "",
    encoder: str = "",
    landmarks: Sequence[tuple[float, float]] | None = None,
    align: bool | Alignment = False,
    return_reconstruction: bool = False,
    refine_steps: int = 0,
    **output: Unpack[OutputOptions],
) -> pb.InvertRequest:
    """Make the request of ``Client.invert``; see ``InvertOptions``."""
    return pb.InvertRequest(
        model=model,
        image=image_source(picture, encoder=encoder, landmarks=landmarks, align=align),
        return_reconstruction=return_reconstruction,
        output_config=output_config(**output),
        refine_step_count=refine_steps or None,
    )


def to_styles(styles: Styles, psi: float | None = None) -> list[Style]:
    """Read one style or many; a bare latent lends all its layers.

    Args:
        styles: what ``stylewire.style`` returns, or latents.
        psi: truncation of latents that have none of their own.
    """
    many = styles if isinstance(styles, Iterable) else [styles]
    whole = [each if isinstance(each, Style) else style(each) for each in many]
    return [Style(latent=to_latent(s.latent, psi), layers=s.layers, weight=s.weight) for s in whole]


def needs_model(styles: Sequence[Style]) -> bool:
    """Say whether a style names its layers in a way that only the model can number."""
    return any(isinstance(each.layers, Resolutions) for each in styles)


def forget_replaced(described: dict[str, pb.Model], name: str, digest: str) -> None:
    """Forget what was known of a model when an answer comes from another one: its layers may be others."""
    if name in described and described[name].digest != digest:
        del described[name]


def mix_request(  # noqa: PLR0913 - the request's fields, keyword-only
    content: LatentLike,
    styles: Sequence[Style],
    described: pb.Model | None,
    *,
    model: str = "",
    psi: float | None = None,
    noise: NoiseMode | pb.Noise = "const",
    return_code: bool = False,
    **output: Unpack[OutputOptions],
) -> pb.MixStylesRequest:
    """Make the request of ``Client.mix_styles``; see ``MixOptions``.

    Args:
        content: gives the layers that no style replaces.
        styles: from ``to_styles``.
        described: the model; only needed when ``needs_model(styles)``.
        model: see ``MixOptions``, as for the rest.
        psi: applies to the content; ``to_styles`` has applied it to the styles.
        noise: see ``MixOptions``.
        return_code: see ``MixOptions``.
        **output: see ``OutputOptions``.
    """
    return pb.MixStylesRequest(
        model=model,
        content=to_latent(content, psi),
        styles=[_style_source(each, described) for each in styles],
        noise=to_noise(noise),
        output_config=output_config(**output),
        return_code=return_code,
    )


def interpolate_request(  # noqa: PLR0913 - the request's fields, keyword-only
    keyframes: Iterable[LatentLike],
    frame_count: int,
    *,
    model: str = "",
    psi: float | None = None,
    method: Method = "lerp",
    easing: Easing = "linear",
    looped: bool = False,
    noise: NoiseMode | pb.Noise = "const",
    return_codes: bool = False,
    **output: Unpack[OutputOptions],
) -> pb.InterpolateRequest:
    """Make the request of ``Client.interpolate``; see ``InterpolateOptions``."""
    check_word("method", method, get_args(Method))
    check_word("easing", easing, get_args(Easing))
    return pb.InterpolateRequest(
        model=model,
        keyframes=to_latents(keyframes, psi),
        frame_count=frame_count,
        method=pb.InterpolateRequest.Method.Value(f"METHOD_{method.upper()}"),
        easing=pb.InterpolateRequest.Easing.Value(f"EASING_{easing.upper()}"),
        looped=looped,
        noise=to_noise(noise),
        output_config=output_config(**output),
        return_codes=return_codes,
    )


def _style_source(chosen: Style, described: pb.Model | None) -> pb.StyleSource:
    source = pb.StyleSource(latent=chosen.latent, weight=chosen.weight)
    if isinstance(chosen.layers, Resolutions):
        assert described is not None
        source.layer_range.CopyFrom(chosen.layers.of(described))
    elif chosen.layers is not None:
        source.layer_range.CopyFrom(to_layer_range(chosen.layers))
    return source


def output_config(
    *,
    format: Format = "png",  # noqa: A002 - the word of the API
    quality: int | None = None,
    resolution_px: int | None = None,
) -> pb.OutputConfig:
    """Make the form of pictures; see ``OutputOptions``."""
    check_word("format", format, _FORMATS)
    return pb.OutputConfig(
        format=pb.ImageFormat.Value(f"IMAGE_FORMAT_{format.upper()}"), quality=quality, resolution_px=resolution_px
    )
