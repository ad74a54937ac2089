"""Wrong requests of every RPC: each wrong part in each place that takes such a part, and what only requests can be."""

import re
from dataclasses import replace
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from stylewire import pb
from support.wrong_parts import JPEG_OF_ALPHA, LATENTS, NOISES, OUTPUTS, PHOTOS, RANGES, VIDEOS, WEIGHTS, Wrong

_MANY = 65  # one over the limit


class Place(NamedTuple):
    """Where a part stands in a request.

    Attributes:
        method: the RPC.
        path: of the part, with indices.
        put: makes the fields of the request.
    """

    method: str
    path: str
    put: Any


class Case(NamedTuple):
    """A wrong request: the RPC, the request, and what the server must say of it."""

    method: str
    request: Any
    wrong: Wrong


def good(model: str) -> pb.Latent:
    """A latent that is right for a model."""
    return pb.Latent(seed=1, class_index=1 if model == "classes" else None)


def _style(model: str, **fields) -> pb.StyleSource:
    return pb.StyleSource(**{"latent": good(model), **fields})


REQUESTS = {
    "Generate": lambda model: {"latents": [good(model)]},
    "Invert": lambda model: {},
    "MixStyles": lambda model: {"content": good(model), "styles": [_style(model)]},
    "Interpolate": lambda model: {"keyframes": [good(model)] * 2, "frame_count": 2},
    "Project": lambda model: {},
}
"""RPC -> the fields of a good request."""

_LATENT_PLACES = [
    Place("Generate", "latents[1]", lambda model, part: {"latents": [good(model), part, good(model)]}),
    Place("MixStyles", "content", lambda _, part: {"content": part}),
    Place("MixStyles", "styles[1].latent", lambda m, part: {"styles": [_style(m), _style(m, latent=part)]}),
    Place("Interpolate", "keyframes[1]", lambda model, part: {"keyframes": [good(model), part]}),
]
_RANGE_PLACES = [Place("MixStyles", "styles[0].layer_range", lambda m, part: {"styles": [_style(m, layer_range=part)]})]
_WEIGHT_PLACES = [Place("MixStyles", "styles[0]", lambda m, part: {"styles": [_style(m, weight=part)]})]
_PHOTO_PLACES = [
    Place("Invert", "image", lambda _, part: {"image": part}),
    Place("Project", "image", lambda _, part: {"image": part}),
]
_NOISE_PLACES = [
    Place(method, "noise", lambda _, part: {"noise": part}) for method in ("Generate", "MixStyles", "Interpolate")
]
_OUTPUT_PLACES = [Place(method, "output_config", lambda _, part: {"output_config": part}) for method in REQUESTS]
_VIDEO_PLACES = [Place("Interpolate", "video", lambda _, part: {"video": part})]

_SLERP = pb.InterpolateRequest.METHOD_SLERP
_OWN: list[tuple[str, dict[str, Any], Wrong]] = [
    ("Generate", {"latents": []}, Wrong("no latents", None, ("latents",))),
    ("Generate", {"latents": [good("")] * _MANY}, Wrong("65 latents", None, ("latents",))),
    ("MixStyles", {"content": None}, Wrong("no content", None, ("content.source",), ("content",))),
    ("MixStyles", {"styles": []}, Wrong("no styles", None, ("styles",))),
    ("MixStyles", {"styles": [_style("")] * _MANY}, Wrong("65 styles", None, ("styles",))),
    ("Interpolate", {"keyframes": []}, Wrong("no keyframes", None, ("keyframes",))),
    ("Interpolate", {"keyframes": [good("")]}, Wrong("one keyframe", None, ("keyframes",))),
    ("Interpolate", {"keyframes": [good("")] * _MANY}, Wrong("65 keyframes", None, ("keyframes",))),
    *(
        ("Interpolate", {"frame_count": count}, Wrong(f"{count} frames", None, ("frame_count",)))
        for count in (0, -1, 3601, 2**31 - 1, -(2**31))
    ),
    ("Interpolate", {"method": 4}, Wrong("unknown method", None, ("method",))),
    ("Interpolate", {"easing": -1}, Wrong("unknown easing", None, ("easing",))),
    (
        "Interpolate",
        {"method": _SLERP, "keyframes": [good(""), pb.Latent(seed=1, model="pixels")]},
        Wrong("a great circle between models", None, ("keyframes[1].model",)),
    ),
    ("Invert", {"refine_step_count": -1}, Wrong("-1 steps", None, ("refine_step_count",))),
    ("Invert", {"refine_step_count": 1001}, Wrong("1001 steps", None, ("refine_step_count",))),
    *(("Project", {"step_count": count}, Wrong(f"{count} steps", None, ("step_count",))) for count in (0, -1, 1001)),
    ("Project", {"start": 3}, Wrong("unknown start", None, ("start",))),
    ("Project", {"seed": -1}, Wrong("negative seed", None, ("seed",))),
    ("Project", {"picture_interval": -1}, Wrong("interval -1", None, ("picture_interval",))),
    ("Project", {"picture_interval": 1001}, Wrong("interval 1001", None, ("picture_interval",))),
    *(
        ("Interpolate", {"video": pb.VideoConfig(), **fields}, Wrong(f"video with {name}", None, paths))
        for name, fields, paths in (
            ("codes", {"return_codes": True}, ("return_codes",)),
            ("PNG", {"output_config": pb.OutputConfig(format=pb.IMAGE_FORMAT_PNG)}, ("output_config.format",)),
            *(
                (f"{px} px", {"output_config": pb.OutputConfig(resolution_px=px)}, ("output_config.resolution_px",))
                for px in (14, 33)
            ),
        )
    ),
    *(
        (method, {"model": "nobody"}, Wrong("unknown model", None, (), ("model",), "MODEL_NOT_FOUND"))
        for method in REQUESTS
    ),
]

_MODEL_CASES = [
    Case("ListModels", pb.ListModelsRequest(page_size=-1), Wrong("negative page", None, ("page_size",))),
    Case("GetModel", pb.GetModelRequest(name="nobody"), Wrong("", None, (), ("name",), "MODEL_NOT_FOUND")),
]


def request_type(method: str) -> Any:
    return getattr(pb, f"{method}Request")


def _at(place: Place, part: Wrong) -> Case:
    fields = {**REQUESTS[place.method](part.model), "model": part.model, **place.put(part.model, part.message)}
    request = request_type(place.method)(**fields)
    prefixed = {name: tuple(f"{place.path}.{field}" for field in getattr(part, name)) for name in ("fields", "tried")}
    return Case(place.method, request, replace(part, name=f"{place.path}.{part.name}", **prefixed))


def _all() -> list[Case]:
    pairs = [
        (_LATENT_PLACES, LATENTS),
        (_RANGE_PLACES, RANGES),
        (_WEIGHT_PLACES, WEIGHTS),
        (_PHOTO_PLACES, PHOTOS),
        (_NOISE_PLACES, NOISES),
        (_OUTPUT_PLACES, OUTPUTS),
        (_VIDEO_PLACES, VIDEOS),
        (_OUTPUT_PLACES[:1], [JPEG_OF_ALPHA]),
    ]
    cases = [_at(place, part) for places, parts in pairs for place in places for part in parts]
    own = [
        Case(method, request_type(method)(**{**REQUESTS[method](""), **fields}), wrong)
        for method, fields, wrong in _OWN
    ]
    # Beside a wrong field elsewhere, Invert and Project have no picture either, and say both.
    return [_with_picture(case) for case in [*cases, *own]] + _MODEL_CASES


def _with_picture(case: Case) -> Case:
    if (
        case.method not in ("Invert", "Project")
        or case.request.HasField("image")
        or case.wrong.reason != "INVALID_FIELD"
    ):
        return case
    return case._replace(wrong=replace(case.wrong, fields=("image.content", *case.wrong.fields)))


CASES = {f"{case.method} {case.wrong.name}": case for case in _all()}


def tried_paths(method: str) -> set[str]:
    """The paths of all fields that are wrong in some request of an RPC, without indices."""
    wrongs = [case.wrong for case in CASES.values() if case.method == method]
    return {re.sub(r"\[\d+\]", "", path) for wrong in wrongs for path in wrong.tried or wrong.fields}


def field_paths(message: Descriptor) -> set[str]:
    """The paths of all fields of a message and of those in it that can be wrong: a bool cannot."""
    found = set()
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_BOOL:
            continue
        if field.message_type is None or field.is_repeated:
            found.add(field.name)
        if field.message_type is not None:
            found |= {f"{field.name}.{path}" for path in field_paths(field.message_type)}
    return found
