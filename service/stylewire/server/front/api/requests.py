"""Requests -> jobs: one function an RPC. The parts of a request are read in ``readers.py``."""

from dataclasses import replace
from fractions import Fraction
from typing import TypeAlias

from stylewire import pb
from stylewire.errors import ModelNotFoundError, UnsupportedError
from stylewire.keyframes import Easing
from stylewire.latents import Array
from stylewire.server.engine.models.model import Model
from stylewire.server.engine.models.registry import Lease
from stylewire.server.engine.projection.tasks import noise_sides
from stylewire.server.front.api.validation import Limits, Reader
from stylewire.server.front.pipeline import jobs, video_encoder

_METHODS: dict[int, jobs.Method] = {
    pb.InterpolateRequest.METHOD_UNSPECIFIED: jobs.Method.LERP,
    pb.InterpolateRequest.METHOD_LERP: jobs.Method.LERP,
    pb.InterpolateRequest.METHOD_SLERP: jobs.Method.SLERP,
    pb.InterpolateRequest.METHOD_CUBIC: jobs.Method.CUBIC,
}
_EASINGS: dict[int, Easing] = {
    pb.InterpolateRequest.EASING_UNSPECIFIED: Easing.LINEAR,
    pb.InterpolateRequest.EASING_LINEAR: Easing.LINEAR,
    pb.InterpolateRequest.EASING_EASE_IN: Easing.EASE_IN,
    pb.InterpolateRequest.EASING_EASE_OUT: Easing.EASE_OUT,
    pb.InterpolateRequest.EASING_EASE_IN_OUT: Easing.EASE_IN_OUT,
}
_CONTAINERS: dict[int, jobs.Container] = {
    pb.VideoConfig.CONTAINER_UNSPECIFIED: jobs.Container.MP4,
    pb.VideoConfig.CONTAINER_MP4: jobs.Container.MP4,
    pb.VideoConfig.CONTAINER_WEBM: jobs.Container.WEBM,
}

_STARTS: dict[int, bool | None] = {
    pb.ProjectRequest.START_UNSPECIFIED: None,
    pb.ProjectRequest.START_ENCODER: True,
    pb.ProjectRequest.START_MEAN: False,
}
_PROJECTION_STEPS, _MAX_PICTURE_INTERVAL = 100, 1000

Request: TypeAlias = (
    pb.GenerateRequest | pb.InvertRequest | pb.MixStylesRequest | pb.InterpolateRequest | pb.ProjectRequest
)
_MANY_LATENTS = 16
"""A latent takes about 0.1 ms."""


def takes_long(request: Request) -> bool:
    """Tell whether reading the request may hold the event loop: it has arrays, pictures or many seeds."""
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
    return len(sources) > _MANY_LATENTS or any(map(_is_array_or_picture, sources))


def demand(request: Request, models: Lease) -> tuple[Model, str, int]:
    """Find the graph that has most to do for a request, and for how many rows, before anything of it is checked.

    Raises:
        ModelNotFoundError: there is no such model or encoder.
        UnsupportedError: the model has no encoder.
    """
    model = models.get(request.model)
    if isinstance(request, pb.InvertRequest):
        return model, model.encoder(request.image.encoder).graph, 1
    row_count = len(request.latents) if isinstance(request, pb.GenerateRequest) else 1
    return model, model.picture_graph, row_count


def _is_array_or_picture(latent: pb.Latent) -> bool:
    return latent.WhichOneof("source") != "seed" or latent.WhichOneof("condition") == "label"


def parse_generate(request: pb.GenerateRequest, models: Lease, limits: Limits) -> jobs.GenerateJob:
    """Check a Generate request; see ``readers`` for what it raises."""
    reader = Reader(models, limits, request.model)
    sources = reader.latents("latents", request.latents, least=1)
    noise = reader.noise("noise", request.noise)
    output = reader.output("output_config", request.output_config, len(sources))
    if request.return_codes:
        reader.needs_styles("codes to return")
    reader.needs_picture()
    reader.finish()
    return jobs.GenerateJob(model=reader.model, latents=sources, noise=noise, output=output)


def parse_invert(request: pb.InvertRequest, models: Lease, limits: Limits) -> jobs.InvertJob:
    """Check an Invert request."""
    reader = Reader(models, limits, request.model)
    photo = reader.photo("image", request.image, reader.model)
    reader.needs_styles("encoder")
    if request.return_reconstruction:
        reader.needs_picture()
    output = reader.output("output_config", request.output_config)
    refinement = None
    if reader.count("refine_step_count", request.refine_step_count, 0, limits.max_projection_steps):
        reader.needs_picture()
        _check_photograph(reader, photo)
        target = reader.target("image", request.image) if reader.sound else None
        if target is not None:
            refinement = jobs.Refinement(target=target, step_count=request.refine_step_count)
    reader.finish()
    assert photo is not None
    return jobs.InvertJob(
        model=reader.model,
        photo=photo,
        return_reconstruction=request.return_reconstruction,
        output=output,
        refinement=refinement,
    )


def parse_project(request: pb.ProjectRequest, models: Lease, limits: Limits) -> jobs.ProjectJob:
    """Check a Project request."""
    reader = Reader(models, limits, request.model)
    reader.needs_styles("codes to optimize")
    reader.needs_picture()
    most, manifest = limits.max_projection_steps, reader.model.manifest
    wanted = request.step_count if request.HasField("step_count") else min(_PROJECTION_STEPS, most)
    step_count = reader.count("step_count", wanted, 1, most)
    interval = reader.count("picture_interval", request.picture_interval, 0, _MAX_PICTURE_INTERVAL)
    seed = reader.count("seed", request.seed, 0, 2**63 - 1)
    sides: tuple[int, ...] = ()
    if request.noise_optimized:
        sides = noise_sides(tuple(layer.resolution_px for layer in manifest.layers), manifest.noise_size)
        if not sides:
            reader.refuse(UnsupportedError(f"model {reader.model.name!r} has no noise maps that could be optimized"))
    photo, target = _photo_and_target(reader, request)
    output = reader.output("output_config", request.output_config)
    reader.finish()
    assert target is not None
    refinement = jobs.Refinement(
        target=target, step_count=step_count, seed=seed, noise_sides_px=sides, picture_interval=interval
    )
    return jobs.ProjectJob(model=reader.model, photo=photo, refinement=refinement, output=output)


def parse_mix(request: pb.MixStylesRequest, models: Lease, limits: Limits) -> jobs.MixJob:
    """Check a MixStyles request."""
    reader = Reader(models, limits, request.model)
    content = reader.latent("content", request.content)
    styles = reader.styles("styles", request.styles)
    noise, output = reader.noise("noise", request.noise), reader.output("output_config", request.output_config)
    reader.needs_styles("layers to mix")
    reader.needs_picture()
    reader.finish()
    return jobs.MixJob(model=reader.model, content=content, styles=styles, noise=noise, output=output)


def parse_interpolate(request: pb.InterpolateRequest, models: Lease, limits: Limits) -> jobs.InterpolateJob:
    """Check an Interpolate request."""
    reader = Reader(models, limits, request.model)
    keyframes = reader.latents("keyframes", request.keyframes, least=2)
    if not 1 <= request.frame_count <= limits.max_frames:
        reader.wrong("frame_count", f"is {request.frame_count}; required, 1 to {limits.max_frames}")
    method = reader.choice("method", request.method, _METHODS, jobs.Method.LERP)
    if method is jobs.Method.SLERP:
        _check_slerp(reader, keyframes)
    easing = reader.choice("easing", request.easing, _EASINGS, Easing.LINEAR)
    noise, output = reader.noise("noise", request.noise), reader.output("output_config", request.output_config)
    if request.return_codes:
        reader.needs_styles("codes to return")
    film = None
    if request.HasField("video"):
        film = _video(reader, "video", request.video)
        _check_video(reader, request, output)
        output = replace(output, form="pixels", quality=None)
    reader.needs_picture()
    reader.finish()
    return jobs.InterpolateJob(
        model=reader.model,
        keyframes=keyframes,
        frame_count=request.frame_count,
        method=method,
        easing=easing,
        looped=request.looped,
        noise=noise,
        output=output,
        video=film,
    )


def _video(reader: Reader, path: str, message: pb.VideoConfig) -> jobs.Video:
    frame_rate, quality, bits_per_second = 30.0, 75, None
    if message.HasField("frame_rate"):
        frame_rate = reader.number(f"{path}.frame_rate", message.frame_rate, 1, 120)
    if message.HasField("quality"):
        quality = round(reader.number(f"{path}.quality", message.quality, 1, 100))
    if message.HasField("bits_per_second"):
        bits_per_second = round(reader.number(f"{path}.bits_per_second", message.bits_per_second, 1e4, 1e8))
        if message.HasField("quality"):
            reader.wrong(f"{path}.quality", "means nothing beside bits_per_second; leave one of them out")
    return jobs.Video(
        container=reader.choice(f"{path}.container", message.container, _CONTAINERS, jobs.Container.MP4),
        # 29.97 and 30000/1001, as they were meant
        frame_rate=Fraction(frame_rate if 1 <= frame_rate <= 120 else 30).limit_denominator(1001),
        quality=quality,
        bits_per_second=bits_per_second,
    )


def _check_video(reader: Reader, request: pb.InterpolateRequest, output: jobs.Output) -> None:
    """Note what a video cannot be made of."""
    manifest = reader.model.manifest
    if request.return_codes:
        reader.wrong("return_codes", "a video has no codes; leave it out, or leave video out")
    if request.output_config.format != pb.IMAGE_FORMAT_UNSPECIFIED:
        reader.wrong("output_config.format", "is not used with video, which has its own container; leave it out")
    if manifest.image_channels in (2, 4):
        reader.wrong("video.container", "has no alpha, and this model makes it; ask for frames as PNG or WEBP")
    side_px = output.resolution_px or manifest.resolution_px
    if side_px % 2 or side_px < video_encoder.SMALLEST_PX:
        expected = f"expected an even number, {video_encoder.SMALLEST_PX} or more"
        reader.wrong("output_config.resolution_px", f"a video of {side_px} px cannot be made; {expected}")
    if not video_encoder.is_available():
        reader.refuse(UnsupportedError("this server makes no videos; its operator can: pip install 'stylewire[video]'"))


def _photo_and_target(reader: Reader, request: pb.ProjectRequest) -> tuple[jobs.Photo | None, Array | None]:
    """Read the picture for an encoder, unless the code starts at the mean, and as the generator is to draw it."""
    encoded = reader.choice("start", request.start, _STARTS, fallback=None)
    if encoded is None:
        encoded = bool(request.image.encoder) or _reads_photographs(reader.model)
    if not encoded:
        if request.image.encoder:
            reader.wrong("image.encoder", "is not used by a code that starts at the mean; leave it out")
        return None, reader.target("image", request.image)
    photo = reader.photo("image", request.image, reader.model)
    _check_photograph(reader, photo)
    return photo, reader.target("image", request.image) if reader.sound else None


def _reads_photographs(model: Model) -> bool:
    try:
        return model.encoder("").input_kind == "photo"
    except (UnsupportedError, ModelNotFoundError):
        return False


def _check_photograph(reader: Reader, photo: jobs.Photo | None) -> None:
    if photo and photo.kind != "photo":
        reader.refuse(UnsupportedError(f"encoder {photo.graph!r} reads no photographs, so nothing can be drawn after"))


def _check_slerp(reader: Reader, keyframes: tuple[jobs.Latent, ...]) -> None:
    for index, keyframe in enumerate(keyframes):
        if keyframe.code is not None or keyframe.photo is not None:
            reader.wrong(f"keyframes[{index}].source", "SLERP walks between z: needs a seed or z; use LERP or CUBIC")
        elif keyframe.model is not keyframes[0].model:
            reader.wrong(f"keyframes[{index}].model", "SLERP needs the same model for all keyframes")
