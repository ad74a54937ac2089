"""Builders of requests from plain arguments, shared by both clients; the counterpart of ``results.py``."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias, Unpack, get_args

from stylewire import pb
from stylewire.client.inputs import (
    LatentLike,
    PhotoLike,
    Resolutions,
    Style,
    image_source,
    noise,
    style,
    to_latent,
    to_layer_range,
)
from stylewire.client.options import (
    Alignment,
    Container,
    Easing,
    Format,
    Method,
    NoiseMode,
    OutputOptions,
    PathOptions,
    Start,
    check_choice,
    forwards_to,
)

_FORMATS = ("png", "jpeg", "webp", "pixels", "tensor")
Styles: TypeAlias = Style | LatentLike | Iterable[Style | LatentLike]


def output_config(
    *,
    format: Format = "png",  # noqa: A002 - the word of the API
    quality: int | None = None,
    resolution_px: int | None = None,
) -> pb.OutputConfig:
    """Make the output config of a request; see ``OutputOptions``."""
    check_choice("format", format, _FORMATS)
    return pb.OutputConfig(
        format=pb.ImageFormat.Value(f"IMAGE_FORMAT_{format.upper()}"), quality=quality, resolution_px=resolution_px
    )


@forwards_to(output_config)
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


@forwards_to(output_config)
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


def to_latents(latents: LatentLike | Iterable[LatentLike], psi: float | None = None) -> list[pb.Latent]:
    """Convert one latent or many; see ``to_latent``."""
    many = latents if isinstance(latents, Iterable) else [latents]
    return [to_latent(latent, psi) for latent in many]


def to_noise(mode: NoiseMode | pb.Noise) -> pb.Noise:
    """Convert a mode; what ``noise`` returned stays as it is."""
    return mode if isinstance(mode, pb.Noise) else noise(mode)


def to_styles(styles: Styles, psi: float | None = None) -> list[Style]:
    """Convert one style or many; a bare latent is a style of all its layers.

    Args:
        styles: what ``stylewire.style`` returns, or latents.
        psi: truncation of latents that have none of their own.
    """
    many = styles if isinstance(styles, Iterable) else [styles]
    whole = [each if isinstance(each, Style) else style(each) for each in many]
    return [Style(latent=to_latent(s.latent, psi), layers=s.layers, weight=s.weight) for s in whole]


def needs_model(styles: Sequence[Style]) -> bool:
    """Return whether a style names its layers in a way that only the model can number."""
    return any(isinstance(each.layers, Resolutions) for each in styles)


def forget_replaced(described: dict[str, pb.Model], name: str, digest: str) -> None:
    """Remove a model from the cache when a response comes from another version: its layers may be others."""
    if name in described and described[name].digest != digest:
        del described[name]


@forwards_to(output_config)
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
        content: keeps the layers that no style replaces.
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


@forwards_to(output_config)
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
    check_choice("method", method, get_args(Method))
    check_choice("easing", easing, get_args(Easing))
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


@forwards_to(interpolate_request)
def video_request(  # noqa: PLR0913 - the request's fields, keyword-only
    keyframes: Iterable[LatentLike],
    frame_count: int,
    *,
    container: Container = "mp4",
    frame_rate: float | None = None,
    quality: int | None = None,
    bits_per_second: int | None = None,
    **path: Unpack[PathOptions],
) -> pb.InterpolateRequest:
    """Make the request of ``Client.interpolate_video``; see ``VideoOptions``."""
    check_choice("container", container, get_args(Container))
    request = interpolate_request(keyframes, frame_count, **path)
    request.output_config.ClearField("format")  # the container takes its place
    request.video.CopyFrom(
        pb.VideoConfig(
            container=pb.VideoConfig.Container.Value(f"CONTAINER_{container.upper()}"),
            frame_rate=frame_rate,
            quality=quality,
            bits_per_second=bits_per_second,
        )
    )
    return request


@forwards_to(output_config)
def project_request(  # noqa: PLR0913 - the request's fields, keyword-only
    picture: PhotoLike,
    *,
    steps: int | None = None,
    start: Start | None = None,
    optimize_noise: bool = False,
    seed: int | None = None,
    picture_interval: int = 0,
    model: str = "",
    encoder: str = "",
    landmarks: Sequence[tuple[float, float]] | None = None,
    align: bool = False,
    **output: Unpack[OutputOptions],
) -> pb.ProjectRequest:
    """Make the request of ``Client.project``; see ``ProjectOptions``."""
    if start is not None:
        check_choice("start", start, get_args(Start))
    return pb.ProjectRequest(
        model=model,
        image=image_source(picture, encoder=encoder, landmarks=landmarks, align=align),
        step_count=steps,
        start=pb.ProjectRequest.Start.Value(f"START_{(start or 'unspecified').upper()}"),
        noise_optimized=optimize_noise,
        seed=seed,
        picture_interval=picture_interval,
        output_config=output_config(**output),
    )


def _style_source(chosen: Style, described: pb.Model | None) -> pb.StyleSource:
    source = pb.StyleSource(latent=chosen.latent, weight=chosen.weight)
    if isinstance(chosen.layers, Resolutions):
        assert described is not None
        source.layer_range.CopyFrom(chosen.layers.of(described))
    elif chosen.layers is not None:
        source.layer_range.CopyFrom(to_layer_range(chosen.layers))
    return source
