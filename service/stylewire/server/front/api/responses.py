"""Answers -> messages. They are filled in place: protobuf copies a message that is put into another one."""

from collections.abc import Iterator
from typing import TypeAlias

from stylewire import pb
from stylewire.server.engine.models.autotune import fastest
from stylewire.server.engine.models.model import Model, State
from stylewire.server.engine.projection.tasks import Progress
from stylewire.server.front.pipeline.jobs import ProjectJob
from stylewire.server.front.pipeline.results import Answer, InvertAnswer, Picture, ProjectionAnswer, ProjectionStep, Run
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


def generate(answer: Answer, digest: str, *, return_codes: bool) -> pb.GenerateResponse:
    """Build the reply of Generate."""
    reply = pb.GenerateResponse(model_digest=digest)
    for picture in answer.pictures:
        _fill_image(reply.images.add(), picture)
    for code in answer.codes if return_codes else ():
        fill_tensor(reply.codes.add(), code)
    _fill_run(reply, answer.run)
    return reply


def mix(answer: Answer, digest: str, *, return_code: bool) -> pb.MixStylesResponse:
    """Build the reply of MixStyles."""
    reply = pb.MixStylesResponse(model_digest=digest)
    _fill_single(reply, answer, return_code=return_code)
    return reply


def frame(answer: Answer, index: int, digest: str, *, return_code: bool) -> pb.InterpolateResponse:
    """Build one message of Interpolate."""
    reply = pb.InterpolateResponse(frame_index=index, model_digest=digest)
    _fill_single(reply, answer, return_code=return_code)
    return reply


def piece(made: Piece, digest: str) -> pb.InterpolateResponse:
    """Build one message of Interpolate with a part of a video."""
    reply = pb.InterpolateResponse(
        frame_index=made.frame_index, model_digest=digest, video_chunk=made.content, video_mime_type=made.mime_type
    )
    _fill_run(reply, made.run)
    return reply


def invert(answer: InvertAnswer, digest: str, face: Face | None) -> pb.InvertResponse:
    """Build the reply of Invert; the face is the one that was found for it."""
    reply = pb.InvertResponse(distortion=answer.distortion, model_digest=digest)
    fill_tensor(reply.code, answer.code)
    if answer.aligned:
        _fill_image(reply.aligned, answer.aligned)
    if answer.reconstruction:
        _fill_image(reply.reconstruction, answer.reconstruction)
    if face:
        _fill_face(reply.face, face)
    _fill_run(reply, answer.run)
    return reply


def project(answer: ProjectionStep | ProjectionAnswer, job: ProjectJob) -> pb.ProjectResponse:
    """Build one message of Project."""
    reply = pb.ProjectResponse(step_count=job.refinement.step_count, model_digest=job.model.digest)
    if isinstance(answer, ProjectionStep):
        _fill_progress(reply, answer.progress)
        if answer.picture:
            _fill_image(reply.image, answer.picture)
    else:
        _fill_progress(reply, answer.last)
        found = reply.projection
        fill_tensor(found.code, answer.code)
        if answer.noise is not None:
            fill_tensor(found.noise, answer.noise)
        _fill_image(found.target, answer.target)
        _fill_image(found.reconstruction, answer.reconstruction)
        found.start_distortion, found.distortion = answer.start_distortion, answer.distortion
        _fill_timing(reply, answer.run)
    return reply


def _fill_progress(reply: pb.ProjectResponse, progress: Progress) -> None:
    reply.step, reply.distortion = progress.step, progress.distortion
    loss = reply.loss
    loss.total, loss.pixel, loss.gradient = progress.loss, progress.pixel, progress.gradient
    loss.spread, loss.noise = progress.spread, progress.correlation


def model(found: Model, *, default: bool) -> pb.Model:
    """Describe a model."""
    manifest = found.manifest
    return pb.Model(
        name=found.name,
        version=found.version,
        state=_STATES[found.state],
        default_model=default,
        capabilities=_capabilities(found),
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
            if encoder.graph in found.graphs
        ],
        backend=found.backend,
        device=found.device,
        precision=found.precision,
        digest=found.digest,
        license=manifest.license,
        attribution=manifest.attribution,
        label_names=manifest.label_names,
        runtimes=_runtimes(found),
        resident_bytes=found.resident_bytes,
    )


def _runtimes(found: Model) -> Iterator[pb.Model.Runtime]:
    """What runs each graph, and how the others did that were compared."""
    for graph, (backend, trials) in found.runtimes().items():
        chosen = fastest(trials)
        if chosen is None:
            yield pb.Model.Runtime(graph=graph, backend=backend.name, precision=backend.precision, chosen=True)
        for trial in trials:
            yield pb.Model.Runtime(
                graph=graph,
                backend=trial.backend,
                precision=trial.precision,
                chosen=trial is chosen,
                rows_per_second=trial.rows_per_second,
                problem=trial.problem,
            )


def _capabilities(found: Model) -> list[pb.Capability.ValueType]:
    able = {
        pb.CAPABILITY_GENERATE: "mapping" in found.graphs or not found.styled,
        pb.CAPABILITY_SYNTHESIZE: "synthesis" in found.graphs,
        pb.CAPABILITY_INVERT: any(encoder.graph in found.graphs for encoder in found.manifest.encoders),
    }
    return [capability for capability, has in able.items() if has]


def _fill_single(reply: pb.MixStylesResponse | pb.InterpolateResponse, answer: Answer, *, return_code: bool) -> None:
    _fill_image(reply.image, answer.pictures[0])
    if return_code:
        fill_tensor(reply.code, answer.codes[0])
    _fill_run(reply, answer.run)


def _fill_image(image: pb.Image, picture: Picture) -> None:
    image.mime_type, image.width_px, image.height_px = picture.mime_type, picture.width_px, picture.height_px
    if picture.array is None:
        image.content = picture.content
    else:
        fill_tensor(image.tensor, picture.array)


def _fill_face(message: pb.Face, face: Face) -> None:
    left, top, right, bottom = face.box
    message.count = face.count
    message.box.CopyFrom(pb.Box(left_px=left, top_px=top, right_px=right, bottom_px=bottom))
    if face.landmarks is not None:
        message.landmarks.points.extend(pb.Point(x_px=x, y_px=y) for x, y in face.landmarks.tolist())


def _fill_run(reply: _Reply, run: Run) -> None:
    _fill_timing(reply, run)
    reply.batch.size = run.batch_size


def _fill_timing(reply: _Reply | pb.ProjectResponse, run: Run) -> None:
    reply.timing.queue.CopyFrom(_duration(run.queue_seconds))
    reply.timing.inference.CopyFrom(_duration(run.inference_seconds))
    reply.timing.encoding.CopyFrom(_duration(run.encoding_seconds))


def _duration(seconds: float) -> pb.Duration:
    whole = int(seconds)
    return pb.Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
