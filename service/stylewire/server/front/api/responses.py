"""Results -> messages. They are filled in place: protobuf copies a message that is put into another one."""

from collections.abc import Iterator
from typing import TypeAlias

from stylewire import pb
from stylewire.server.context import Timings
from stylewire.server.engine_api.models import ModelStatus, State
from stylewire.server.engine_api.projection import Progress
from stylewire.server.front.pipeline.jobs import ProjectJob
from stylewire.server.front.pipeline.results import Image, ImagesResult, InvertResult, ProjectionStep, ProjectResult
from stylewire.server.front.pipeline.video import Piece
from stylewire.server.front.preprocessing.face_detectors import Face
from stylewire.tensors import fill_tensor

_Reply: TypeAlias = pb.GenerateResponse | pb.InvertResponse | pb.MixStylesResponse | pb.InterpolateResponse

_STATES = {
    State.LOADING: pb.Model.STATE_LOADING,
    State.READY: pb.Model.STATE_READY,
    State.RETIRING: pb.Model.STATE_RETIRING,
    State.CLOSED: pb.Model.STATE_RETIRING,
    State.FAILED: pb.Model.STATE_FAILED,
}


def generate(result: ImagesResult, digest: str, *, return_codes: bool) -> pb.GenerateResponse:
    """Build the reply of Generate."""
    reply = pb.GenerateResponse(model_digest=digest)
    for image in result.images:
        _fill_image(reply.images.add(), image)
    for code in result.codes if return_codes else ():
        fill_tensor(reply.codes.add(), code)
    _fill_batch(reply, result.timings)
    return reply


def mix(result: ImagesResult, digest: str, *, return_code: bool) -> pb.MixStylesResponse:
    """Build the reply of MixStyles."""
    reply = pb.MixStylesResponse(model_digest=digest)
    _fill_single(reply, result, return_code=return_code)
    return reply


def frame(result: ImagesResult, index: int, digest: str, *, return_code: bool) -> pb.InterpolateResponse:
    """Build one message of Interpolate."""
    reply = pb.InterpolateResponse(frame_index=index, model_digest=digest)
    _fill_single(reply, result, return_code=return_code)
    return reply


def piece(made: Piece, digest: str) -> pb.InterpolateResponse:
    """Build one message of Interpolate with a part of a video."""
    reply = pb.InterpolateResponse(
        frame_index=made.frame_index, model_digest=digest, video_chunk=made.content, video_mime_type=made.mime_type
    )
    _fill_batch(reply, made.timings)
    return reply


def invert(result: InvertResult, digest: str) -> pb.InvertResponse:
    """Build the reply of Invert."""
    reply = pb.InvertResponse(distortion=result.distortion, model_digest=digest)
    fill_tensor(reply.code, result.code)
    if result.aligned:
        _fill_image(reply.aligned, result.aligned)
    if result.reconstruction:
        _fill_image(reply.reconstruction, result.reconstruction)
    if result.face:
        _fill_face(reply.face, result.face)
    _fill_batch(reply, result.timings)
    return reply


def project(result: ProjectionStep | ProjectResult, job: ProjectJob) -> pb.ProjectResponse:
    """Build one message of Project."""
    reply = pb.ProjectResponse(step_count=job.refinement.step_count, model_digest=job.model.digest)
    if isinstance(result, ProjectionStep):
        _fill_progress(reply, result.progress)
        if result.image:
            _fill_image(reply.image, result.image)
    else:
        _fill_progress(reply, result.last)
        found = reply.projection
        fill_tensor(found.code, result.code)
        if result.noise is not None:
            fill_tensor(found.noise, result.noise)
        _fill_image(found.target, result.target)
        _fill_image(found.reconstruction, result.reconstruction)
        found.start_distortion, found.distortion = result.start_distortion, result.distortion
        _fill_timing(reply, result.timings)
    return reply


def _fill_progress(reply: pb.ProjectResponse, progress: Progress) -> None:
    reply.step, reply.distortion = progress.step, progress.distortion
    loss = reply.loss
    loss.total, loss.pixel, loss.gradient = progress.loss, progress.pixel, progress.gradient
    loss.spread, loss.noise = progress.spread, progress.correlation


def model(status: ModelStatus, *, default: bool) -> pb.Model:
    """Describe a model."""
    info, manifest = status.info, status.info.manifest
    return pb.Model(
        name=info.name,
        version=info.version,
        state=_STATES[status.state],
        default_model=default,
        capabilities=_capabilities(status),
        architecture=manifest.architecture,
        resolution_px=manifest.resolution_px,
        image_channels=manifest.image_channels,
        z_dim=manifest.z_dim,
        w_dim=manifest.w_dim,
        label_dim=manifest.label_dim,
        layer_count=manifest.layer_count,
        layers=[pb.Model.Layer(resolution_px=layer.resolution_px, role=layer.role) for layer in manifest.layers],
        latent_space=manifest.latent_space,
        encoders=[
            pb.Model.Encoder(
                name=encoder.graph,
                task=encoder.task,
                input_kind=encoder.input_kind,
                input_height_px=encoder.input_height_px,
                input_width_px=encoder.input_width_px,
                input_channels=encoder.input_channels,
                reduction=encoder.reduction or 0,
            )
            for encoder in manifest.encoders
            if encoder.graph in info.graphs
        ],
        backend=status.backend,
        device=status.device,
        precision=status.precision,
        digest=info.digest,
        license=manifest.license,
        attribution=manifest.attribution,
        label_names=manifest.label_names,
        runtimes=_runtimes(status),
        resident_bytes=status.resident_bytes,
    )


def _runtimes(status: ModelStatus) -> Iterator[pb.Model.Runtime]:
    """Describe what runs each graph, and how the others did that were compared."""
    for graph, runtimes in status.runtimes.items():
        for runtime in runtimes:
            yield pb.Model.Runtime(
                graph=graph,
                backend=runtime.backend,
                precision=runtime.precision,
                chosen=runtime.chosen,
                rows_per_second=runtime.rows_per_second,
                problem=runtime.problem,
            )


def _capabilities(status: ModelStatus) -> list[pb.Capability.ValueType]:
    graphs = status.info.graphs
    able = {
        pb.CAPABILITY_GENERATE: "mapping" in graphs or not status.info.styled,
        pb.CAPABILITY_SYNTHESIZE: "synthesis" in graphs,
        pb.CAPABILITY_INVERT: any(encoder.graph in graphs for encoder in status.info.manifest.encoders),
    }
    return [capability for capability, has in able.items() if has]


def _fill_single(
    reply: pb.MixStylesResponse | pb.InterpolateResponse, result: ImagesResult, *, return_code: bool
) -> None:
    _fill_image(reply.image, result.images[0])
    if return_code:
        fill_tensor(reply.code, result.codes[0])
    _fill_batch(reply, result.timings)


def _fill_image(message: pb.Image, image: Image) -> None:
    message.mime_type, message.width_px, message.height_px = image.mime_type, image.width_px, image.height_px
    if image.array is None:
        message.content = image.content
    else:
        fill_tensor(message.tensor, image.array)


def _fill_face(message: pb.Face, face: Face) -> None:
    left, top, right, bottom = face.box
    message.count = face.count
    message.box.CopyFrom(pb.Box(left_px=left, top_px=top, right_px=right, bottom_px=bottom))
    if face.landmarks is not None:
        message.landmarks.points.extend(pb.Point(x_px=x, y_px=y) for x, y in face.landmarks.tolist())


def _fill_batch(reply: _Reply, timings: Timings) -> None:
    _fill_timing(reply, timings)
    reply.batch.size = timings.batch_size


def _fill_timing(reply: _Reply | pb.ProjectResponse, timings: Timings) -> None:
    reply.timing.queue.CopyFrom(_duration(timings.queue_seconds))
    reply.timing.inference.CopyFrom(_duration(timings.inference_seconds))
    reply.timing.encoding.CopyFrom(_duration(timings.encoding_seconds))


def _duration(seconds: float) -> pb.Duration:
    whole = int(seconds)
    return pb.Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
