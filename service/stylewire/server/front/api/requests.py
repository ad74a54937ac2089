"""Requests -> jobs: one function an RPC. The parts of a request are parsed in ``validation.py``."""

from dataclasses import replace
from fractions import Fraction
from typing import TypeAlias

from stylewire import pb
from stylewire.errors import ModelNotFoundError, UnsupportedError
from stylewire.keyframes import Easing
from stylewire.latents import Array
from stylewire.server.engine_api.engine import Lease
from stylewire.server.engine_api.models import ModelInfo
from stylewire.server.engine_api.projection import noise_sides
from stylewire.server.front.api import enums
from stylewire.server.front.api.limits import Limits
from stylewire.server.front.api.validation import RequestValidator
from stylewire.server.front.pipeline import jobs, video_encoder
from stylewire.server.front.preprocessing.photos import Photo

_PROJECTION_STEPS, _MAX_PICTURE_INTERVAL = 100, 1000

Request: TypeAlias = (
    pb.GenerateRequest | pb.InvertRequest | pb.MixStylesRequest | pb.InterpolateRequest | pb.ProjectRequest
)
_MANY_LATENTS = 16
"""A latent takes about 0.1 ms."""


def takes_long(request: Request) -> bool:
    """Return whether parsing may hold the event loop: the request has arrays, photos or many seeds."""
    match request:
        case pb.GenerateRequest():
            sources = list(request.latents)
        case pb.MixStylesRequest():
            sources = [request.content, *(style.latent for style in request.styles)]
        case pb.InterpolateRequest():
            sources = list(request.keyframes)
        case _:
            return True
    # Not by size: protobuf finds the size of a message by serializing it.
    return len(sources) > _MANY_LATENTS or any(map(_is_array_or_photo, sources))


def demand(request: Request, models: Lease) -> tuple[ModelInfo, str, int]:
    """Find the graph that has most to do for a request, and for how many rows, before anything of it is checked.

    Raises:
        ModelNotFoundError: there is no such model or encoder.
        UnsupportedError: the model has no encoder.
    """
    model = models.get(request.model)
    if isinstance(request, pb.InvertRequest):
        return model, model.encoder(request.image.encoder).graph, 1
    row_count = len(request.latents) if isinstance(request, pb.GenerateRequest) else 1
    return model, model.image_graph, row_count


def _is_array_or_photo(latent: pb.Latent) -> bool:
    return latent.WhichOneof("source") != "seed" or latent.WhichOneof("condition") == "label"


def parse_generate(request: pb.GenerateRequest, models: Lease, limits: Limits) -> jobs.GenerateJob:
    """Parse a Generate request; see ``RequestValidator`` for what it raises."""
    validator = RequestValidator(models, limits, request.model)
    sources = validator.latents("latents", request.latents, least=1)
    noise = validator.noise("noise", request.noise)
    output = validator.output("output_config", request.output_config, len(sources))
    if request.return_codes:
        validator.needs_styles("codes to return")
    validator.needs_picture()
    validator.finish()
    return jobs.GenerateJob(model=validator.model, latents=sources, noise=noise, output=output)


def parse_invert(request: pb.InvertRequest, models: Lease, limits: Limits) -> jobs.InvertJob:
    """Parse an Invert request."""
    validator = RequestValidator(models, limits, request.model)
    photo = validator.photo("image", request.image, validator.model)
    validator.needs_styles("encoder")
    if request.return_reconstruction:
        validator.needs_picture()
    output = validator.output("output_config", request.output_config)
    refinement = None
    if validator.count("refine_step_count", request.refine_step_count, 0, limits.max_projection_steps):
        validator.needs_picture()
        _check_photograph(validator, photo)
        target = validator.target("image", request.image) if validator.sound else None
        if target is not None:
            refinement = jobs.Refinement(target=target, step_count=request.refine_step_count)
    validator.finish()
    assert photo is not None
    return jobs.InvertJob(
        model=validator.model,
        photo=photo,
        return_reconstruction=request.return_reconstruction,
        output=output,
        refinement=refinement,
    )


def parse_project(request: pb.ProjectRequest, models: Lease, limits: Limits) -> jobs.ProjectJob:
    """Parse a Project request."""
    validator = RequestValidator(models, limits, request.model)
    validator.needs_styles("codes to optimize")
    validator.needs_picture()
    most, manifest = limits.max_projection_steps, validator.model.manifest
    wanted = request.step_count if request.HasField("step_count") else min(_PROJECTION_STEPS, most)
    step_count = validator.count("step_count", wanted, 1, most)
    interval = validator.count("picture_interval", request.picture_interval, 0, _MAX_PICTURE_INTERVAL)
    seed = validator.count("seed", request.seed, 0, 2**63 - 1)
    sides: tuple[int, ...] = ()
    if request.noise_optimized:
        sides = noise_sides(tuple(layer.resolution_px for layer in manifest.layers), manifest.noise_size)
        if not sides:
            validator.refuse(
                UnsupportedError(f"model {validator.model.name!r} has no noise maps that could be optimized")
            )
    photo, target = _photo_and_target(validator, request)
    output = validator.output("output_config", request.output_config)
    validator.finish()
    assert target is not None
    refinement = jobs.Refinement(
        target=target, step_count=step_count, seed=seed, noise_sides_px=sides, picture_interval=interval
    )
    return jobs.ProjectJob(model=validator.model, photo=photo, refinement=refinement, output=output)


def parse_mix(request: pb.MixStylesRequest, models: Lease, limits: Limits) -> jobs.MixJob:
    """Parse a MixStyles request."""
    validator = RequestValidator(models, limits, request.model)
    content = validator.latent("content", request.content)
    styles = validator.styles("styles", request.styles)
    noise, output = validator.noise("noise", request.noise), validator.output("output_config", request.output_config)
    validator.needs_styles("layers to mix")
    validator.needs_picture()
    validator.finish()
    return jobs.MixJob(model=validator.model, content=content, styles=styles, noise=noise, output=output)


def parse_interpolate(request: pb.InterpolateRequest, models: Lease, limits: Limits) -> jobs.InterpolateJob:
    """Parse an Interpolate request."""
    validator = RequestValidator(models, limits, request.model)
    keyframes = validator.latents("keyframes", request.keyframes, least=2)
    if not 1 <= request.frame_count <= limits.max_frames:
        validator.wrong("frame_count", f"is {request.frame_count}; required, 1 to {limits.max_frames}")
    method = validator.enum("method", request.method, enums.METHODS, jobs.Method.LERP)
    if method is jobs.Method.SLERP:
        _check_slerp(validator, keyframes)
    easing = validator.enum("easing", request.easing, enums.EASINGS, Easing.LINEAR)
    noise, output = validator.noise("noise", request.noise), validator.output("output_config", request.output_config)
    if request.return_codes:
        validator.needs_styles("codes to return")
    video = None
    if request.HasField("video"):
        video = _video(validator, "video", request.video)
        _check_video(validator, request, output)
        output = replace(output, form="pixels", quality=None)
    validator.needs_picture()
    validator.finish()
    return jobs.InterpolateJob(
        model=validator.model,
        keyframes=keyframes,
        frame_count=request.frame_count,
        method=method,
        easing=easing,
        looped=request.looped,
        noise=noise,
        output=output,
        video=video,
    )


def _video(validator: RequestValidator, path: str, message: pb.VideoConfig) -> jobs.Video:
    frame_rate, quality, bits_per_second = 30.0, 75, None
    if message.HasField("frame_rate"):
        frame_rate = validator.number(f"{path}.frame_rate", message.frame_rate, 1, 120)
    if message.HasField("quality"):
        quality = round(validator.number(f"{path}.quality", message.quality, 1, 100))
    if message.HasField("bits_per_second"):
        bits_per_second = round(validator.number(f"{path}.bits_per_second", message.bits_per_second, 1e4, 1e8))
        if message.HasField("quality"):
            validator.wrong(f"{path}.quality", "means nothing beside bits_per_second; leave one of them out")
    return jobs.Video(
        container=validator.enum(f"{path}.container", message.container, enums.CONTAINERS, jobs.Container.MP4),
        # 29.97 and 30000/1001, as they were meant
        frame_rate=Fraction(frame_rate if 1 <= frame_rate <= 120 else 30).limit_denominator(1001),
        quality=quality,
        bits_per_second=bits_per_second,
    )


def _check_video(validator: RequestValidator, request: pb.InterpolateRequest, output: jobs.Output) -> None:
    """Refuse what a video cannot be made of."""
    manifest = validator.model.manifest
    if request.return_codes:
        validator.wrong("return_codes", "a video has no codes; leave it out, or leave video out")
    if request.output_config.format != pb.IMAGE_FORMAT_UNSPECIFIED:
        validator.wrong("output_config.format", "is not used with video, which has its own container; leave it out")
    if manifest.image_channels in (2, 4):
        validator.wrong("video.container", "has no alpha, and this model makes it; ask for frames as PNG or WEBP")
    side_px = output.resolution_px or manifest.resolution_px
    if side_px % 2 or side_px < video_encoder.SMALLEST_PX:
        expected = f"expected an even number, {video_encoder.SMALLEST_PX} or more"
        validator.wrong("output_config.resolution_px", f"a video of {side_px} px cannot be made; {expected}")
    if not video_encoder.is_available():
        validator.refuse(
            UnsupportedError("this server makes no videos; its operator can: pip install 'stylewire[video]'")
        )


def _photo_and_target(validator: RequestValidator, request: pb.ProjectRequest) -> tuple[Photo | None, Array | None]:
    """Parse the photo for an encoder, unless the code starts at the mean, and as the generator is to draw it."""
    encoded = validator.enum("start", request.start, enums.STARTS, fallback=None)
    if encoded is None:
        encoded = bool(request.image.encoder) or _reads_photographs(validator.model)
    if not encoded:
        if request.image.encoder:
            validator.wrong("image.encoder", "is not used by a code that starts at the mean; leave it out")
        return None, validator.target("image", request.image)
    photo = validator.photo("image", request.image, validator.model)
    _check_photograph(validator, photo)
    return photo, validator.target("image", request.image) if validator.sound else None


def _reads_photographs(model: ModelInfo) -> bool:
    try:
        return model.encoder("").input_kind == "photo"
    except (UnsupportedError, ModelNotFoundError):
        return False


def _check_photograph(validator: RequestValidator, photo: Photo | None) -> None:
    if photo and photo.kind != "photo":
        validator.refuse(
            UnsupportedError(f"encoder {photo.graph!r} reads no photographs, so nothing can be drawn after")
        )


def _check_slerp(validator: RequestValidator, keyframes: tuple[jobs.Latent, ...]) -> None:
    for index, keyframe in enumerate(keyframes):
        if keyframe.code is not None or keyframe.photo is not None:
            validator.wrong(f"keyframes[{index}].source", "SLERP walks between z: needs a seed or z; use LERP or CUBIC")
        elif keyframe.model is not keyframes[0].model:
            validator.wrong(f"keyframes[{index}].model", "SLERP needs the same model for all keyframes")
