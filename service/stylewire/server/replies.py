"""Answers -> messages."""

from stylewire import pb
from stylewire.server.answers import Answer, InvertAnswer, Picture, Run
from stylewire.server.registry import Model, State
from stylewire.tensors import to_tensor

_STATES = {
    State.LOADING: pb.Model.STATE_LOADING,
    State.READY: pb.Model.STATE_READY,
    State.CLOSED: pb.Model.STATE_LOADING,  # only for the moment in which the server stops
}


def generate(answer: Answer, digest: str, *, return_codes: bool) -> pb.GenerateResponse:
    """Build the reply of Generate."""
    return pb.GenerateResponse(
        images=[_image(picture) for picture in answer.pictures],
        codes=[to_tensor(code) for code in answer.codes] if return_codes else (),
        timing=_timing(answer.run),
        batch=pb.BatchInfo(size=answer.run.batch_size),
        model_digest=digest,
    )


def mix(answer: Answer, digest: str, *, return_code: bool) -> pb.MixStylesResponse:
    """Build the reply of MixStyles."""
    return pb.MixStylesResponse(
        image=_image(answer.pictures[0]),
        code=to_tensor(answer.codes[0]) if return_code else None,
        timing=_timing(answer.run),
        batch=pb.BatchInfo(size=answer.run.batch_size),
        model_digest=digest,
    )


def frame(answer: Answer, index: int, digest: str, *, return_code: bool) -> pb.InterpolateResponse:
    """Build one message of Interpolate."""
    return pb.InterpolateResponse(
        frame_index=index,
        image=_image(answer.pictures[0]),
        code=to_tensor(answer.codes[0]) if return_code else None,
        timing=_timing(answer.run),
        batch=pb.BatchInfo(size=answer.run.batch_size),
        model_digest=digest,
    )


def invert(answer: InvertAnswer, digest: str) -> pb.InvertResponse:
    """Build the reply of Invert."""
    return pb.InvertResponse(
        code=to_tensor(answer.code),
        aligned=_image(answer.aligned) if answer.aligned else None,
        reconstruction=_image(answer.reconstruction) if answer.reconstruction else None,
        distortion=answer.distortion,
        timing=_timing(answer.run),
        batch=pb.BatchInfo(size=answer.run.batch_size),
        model_digest=digest,
    )


def model(found: Model, *, default: bool) -> pb.Model:
    """Describe a model."""
    manifest = found.manifest
    return pb.Model(
        name=found.name,
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
    )


def _capabilities(found: Model) -> list[pb.Capability.ValueType]:
    able = {
        pb.CAPABILITY_GENERATE: "mapping" in found.graphs,
        pb.CAPABILITY_SYNTHESIZE: "synthesis" in found.graphs,
        pb.CAPABILITY_INVERT: any(encoder.graph in found.graphs for encoder in found.manifest.encoders),
    }
    return [capability for capability, has in able.items() if has]


def _image(picture: Picture) -> pb.Image:
    image = pb.Image(mime_type=picture.mime_type, width_px=picture.width_px, height_px=picture.height_px)
    if picture.array is None:
        image.content = picture.content
    else:
        image.tensor.CopyFrom(to_tensor(picture.array))
    return image


def _timing(run: Run) -> pb.Timing:
    return pb.Timing(
        queue=_duration(run.queue_seconds),
        inference=_duration(run.inference_seconds),
        encoding=_duration(run.encoding_seconds),
    )


def _duration(seconds: float) -> pb.Duration:
    whole = int(seconds)
    return pb.Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
