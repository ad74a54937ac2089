"""Enums of the protos -> their values inside: a table each. Numbers that are in no table are refused."""

from stylewire import pb
from stylewire.keyframes import Easing
from stylewire.media.codecs import ImageFormat
from stylewire.server.front.pipeline import jobs
from stylewire.server.front.preprocessing.face_detectors import Art

FORMS: dict[int, jobs.OutputForm] = {
    pb.IMAGE_FORMAT_UNSPECIFIED: ImageFormat.PNG,
    pb.IMAGE_FORMAT_PNG: ImageFormat.PNG,
    pb.IMAGE_FORMAT_JPEG: ImageFormat.JPEG,
    pb.IMAGE_FORMAT_WEBP: ImageFormat.WEBP,
    pb.IMAGE_FORMAT_TENSOR: "tensor",
    pb.IMAGE_FORMAT_PIXELS: "pixels",
}
NOISE_MODES: dict[int, jobs.NoiseMode] = {
    pb.Noise.MODE_UNSPECIFIED: jobs.NoiseMode.CONST,
    pb.Noise.MODE_CONST: jobs.NoiseMode.CONST,
    pb.Noise.MODE_NONE: jobs.NoiseMode.NONE,
    pb.Noise.MODE_RANDOM: jobs.NoiseMode.RANDOM,
    pb.Noise.MODE_VALUES: jobs.NoiseMode.VALUES,
}
ALIGNMENTS: dict[int, Art | None] = {
    pb.ALIGNMENT_UNSPECIFIED: None,
    pb.ALIGNMENT_NONE: None,
    pb.ALIGNMENT_FACE: "face",
    pb.ALIGNMENT_ANIME: "anime",
}
METHODS: dict[int, jobs.Method] = {
    pb.InterpolateRequest.METHOD_UNSPECIFIED: jobs.Method.LERP,
    pb.InterpolateRequest.METHOD_LERP: jobs.Method.LERP,
    pb.InterpolateRequest.METHOD_SLERP: jobs.Method.SLERP,
    pb.InterpolateRequest.METHOD_CUBIC: jobs.Method.CUBIC,
}
EASINGS: dict[int, Easing] = {
    pb.InterpolateRequest.EASING_UNSPECIFIED: Easing.LINEAR,
    pb.InterpolateRequest.EASING_LINEAR: Easing.LINEAR,
    pb.InterpolateRequest.EASING_EASE_IN: Easing.EASE_IN,
    pb.InterpolateRequest.EASING_EASE_OUT: Easing.EASE_OUT,
    pb.InterpolateRequest.EASING_EASE_IN_OUT: Easing.EASE_IN_OUT,
}
CONTAINERS: dict[int, jobs.Container] = {
    pb.VideoConfig.CONTAINER_UNSPECIFIED: jobs.Container.MP4,
    pb.VideoConfig.CONTAINER_MP4: jobs.Container.MP4,
    pb.VideoConfig.CONTAINER_WEBM: jobs.Container.WEBM,
}

STARTS: dict[int, bool | None] = {
    pb.ProjectRequest.START_UNSPECIFIED: None,
    pb.ProjectRequest.START_ENCODER: True,
    pb.ProjectRequest.START_MEAN: False,
}
"""Whether the code starts at an encoder's; None: where the model has one for photos."""
