"""Requests that are right, and requests whose fields have values that nobody would send."""

import math
import struct
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from random import Random
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from stylewire import pb
from stylewire.tensors import to_tensor

Kind = FieldDescriptor
MODELS = ("", "avatars", "pixels")
_SHAPES = {"z": (128,), "w": (128,), "w_plus": (10, 128)}
"""Of the demo models."""
FACE = ((0.39, 0.47), (0.61, 0.47), (0.5, 0.58), (0.42, 0.69), (0.58, 0.69))

_INTEGERS = (0, 1, -1, 2, 9, 10, 11, 63, 64, 65, 100, 101, 127, 128, 255, 3600, 3601, 2**15, 2**16, 2**31 - 1, -(2**31))
_LONG_INTEGERS = (*_INTEGERS, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 2.001, 10.0, 1e-45, 5e-324, 3.4e38, 1.7e308, -1e300)
_NO_NUMBERS = (float("nan"), float("inf"), float("-inf"))
_STRINGS = ("", "avatars", "pixels", "encoder", "nobody", "\0", "../../etc/passwd", "%s%n{}", "ä" * 50, "x" * 5000)
_ENUMS = (*range(-1, 9), 2**31 - 1, -(2**31))
_CHOICES: dict[int, Sequence[Any]] = {
    Kind.TYPE_INT32: _INTEGERS,
    Kind.TYPE_INT64: _LONG_INTEGERS,
    Kind.TYPE_DOUBLE: _FLOATS + _NO_NUMBERS,
    Kind.TYPE_ENUM: _ENUMS,
    Kind.TYPE_BOOL: (False, True),
    Kind.TYPE_STRING: _STRINGS,
}


@cache
def photo() -> bytes:
    """The PNG of a shipped sample, 64 px."""
    return (resources.files("stylewire") / "demo" / "samples" / "avatar00.png").read_bytes()


def valid(random: Random) -> tuple[str, Message]:  # noqa: PLR0911 - one a method
    """Make a request that the demo models answer: (method, request)."""
    model = random.choice(MODELS)
    noise, output = _noise(random), _output(random)
    match random.randrange(7):
        case 0:
            latents = [latent(random) for _ in range(random.randint(1, 4))]
            return "Generate", pb.GenerateRequest(model=model, latents=latents, noise=noise, output_config=output)
        case 1:
            return "Invert", pb.InvertRequest(
                image=_image(random), return_reconstruction=random.random() < 0.5, output_config=output
            )
        case 2:
            styles = [_style(random) for _ in range(random.randint(1, 3))]
            return "MixStyles", pb.MixStylesRequest(
                model=model, content=latent(random), styles=styles, noise=noise, output_config=output
            )
        case 3:
            return "Interpolate", pb.InterpolateRequest(
                model=model,
                keyframes=[latent(random) for _ in range(random.randint(2, 4))],
                frame_count=random.randint(1, 30),
                method=random.choice([0, 1, 3]),
                easing=random.randrange(5),
                looped=random.random() < 0.5,
                noise=noise,
                **_form(random, output),
            )
        case 4:
            return "Project", pb.ProjectRequest(
                model=random.choice(("", "avatars")),
                image=_image(random),
                step_count=random.randint(1, 2),
                noise_optimized=random.random() < 0.5,
                seed=random.randrange(2**63),
                picture_interval=random.randrange(3),
                output_config=output,
            )
        case 5:
            return "ListModels", pb.ListModelsRequest(page_size=random.randrange(3))
        case _:
            return "GetModel", pb.GetModelRequest(name=model)


def _form(random: Random, output: pb.OutputConfig) -> dict[str, Message]:
    """Ask for frames, or for a video, which takes no form of a picture."""
    if random.random() < 0.7:
        return {"output_config": output}
    video = pb.VideoConfig(container=random.randrange(3), frame_rate=random.choice([None, 1, 29.97, 120]))
    return {"video": video, "output_config": pb.OutputConfig(resolution_px=random.choice([None, 16, 64]))}


def latent(random: Random) -> pb.Latent:
    """Make a latent of any kind."""
    match random.choices(("seed", "z", "w", "w_plus", "image"), (6, 2, 2, 2, 1))[0]:
        case "seed":
            made = pb.Latent(seed=random.randrange(2**32))
        case "image":
            made = pb.Latent(image=_image(random), model="avatars")
        case source:
            floats = np.frombuffer(random.randbytes(math.prod(_SHAPES[source])), np.int8).reshape(_SHAPES[source])
            made = pb.Latent(**{source: to_tensor(floats / np.float32(64))})
    if random.random() < 0.3:
        made.truncation.CopyFrom(pb.Truncation(psi=random.uniform(-2, 2), layer_range=_layers(random)))
    return made


def _style(random: Random) -> pb.StyleSource:
    return pb.StyleSource(latent=latent(random), layer_range=_layers(random), weight=random.random())


def _layers(random: Random) -> pb.LayerRange:
    start = random.randrange(10)
    return pb.LayerRange(start_layer=start, end_layer=random.randint(start + 1, 10))


def _image(random: Random) -> pb.ImageSource:
    if random.random() < 0.9:
        return pb.ImageSource(content=photo())
    points = [pb.Point(x_px=64 * x + random.uniform(-3, 3), y_px=64 * y) for x, y in FACE]
    return pb.ImageSource(content=photo(), alignment=pb.ALIGNMENT_FACE, landmarks=pb.Landmarks(points=points))


def _noise(random: Random) -> pb.Noise:
    choices = (pb.Noise(), pb.Noise(mode=pb.Noise.MODE_NONE), pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=7, strength=0.5))
    return random.choice(choices)


def _output(random: Random) -> pb.OutputConfig:
    chosen = random.randrange(6)
    quality = random.randint(1, 100) if chosen in (pb.IMAGE_FORMAT_JPEG, pb.IMAGE_FORMAT_WEBP) else None
    resolution = random.randint(1, 64) if chosen != pb.IMAGE_FORMAT_TENSOR and random.random() < 0.3 else None
    return pb.OutputConfig(format=pb.ImageFormat.ValueType(chosen), quality=quality, resolution_px=resolution)


# --- wrong fields ----------------------------------------------------------------------------------------------------


def mutate(message: Message, random: Random) -> None:
    """Change one field somewhere in a message: to an extreme, to nothing, to many, to another's."""
    target = random.choice(list(_parts(message)))
    fields = target.DESCRIPTOR.fields
    if not fields:
        return
    field = random.choice(fields)
    if random.random() < 0.1:
        target.ClearField(field.name)
    elif field.is_repeated:
        _mutate_list(getattr(target, field.name), field, random)
    elif field.message_type is not None:
        getattr(target, field.name).CopyFrom(_part(field, random))
    else:
        _set(target, field.name, value(field, random, getattr(target, field.name)))


def invent(made: Message, random: Random, depth: int = 6) -> None:
    """Fill a message with fields at random."""
    for field in made.DESCRIPTOR.fields:
        if random.random() < 0.5:
            continue
        if field.message_type is None and not field.is_repeated:
            _set(made, field.name, value(field, random, None))
        elif depth and field.is_repeated:
            for _ in range(random.randrange(4)):
                items = getattr(made, field.name)
                if field.message_type is None:
                    items.append(value(field, random, None))
                else:
                    invent(items.add(), random, depth - 1)
        elif depth:
            invent(getattr(made, field.name), random, depth - 1)


def value(field: FieldDescriptor, random: Random, old: Any) -> Any:
    """Make a value of a field's type that its author did not think of."""
    if field.type in _CHOICES:
        return random.choice(_CHOICES[field.type])
    return _bytes(random, old or b"")


def _parts(message: Message) -> Sequence[Message]:
    found = [message]
    for field, content in message.ListFields():
        if field.message_type is not None:
            for part in content if field.is_repeated else [content]:
                found += _parts(part)
    return found


def _part(field: FieldDescriptor, random: Random) -> Message:
    """Make a message for a field, often one that would be right elsewhere."""
    makers: dict[str, Callable[[Random], Message]] = {
        "Latent": latent,
        "ImageSource": _image,
        "StyleSource": _style,
        "Noise": _noise,
        "OutputConfig": _output,
        "LayerRange": _layers,
        "Tensor": lambda r: to_tensor(
            np.full(r.choice([*_SHAPES.values(), (3,), (0,)]), r.choice(_FLOATS[:8]), np.float32)
        ),
    }
    name = field.message_type.name
    if name in makers and random.random() < 0.7:
        return makers[name](random)
    made = getattr(pb, name)()
    invent(made, random)
    return made


def _mutate_list(items: Any, field: FieldDescriptor, random: Random) -> None:
    match random.randrange(4):
        case 0 if items:
            del items[random.randrange(len(items))]
        case 1 if items:
            items.extend([random.choice(items)] * random.choice([1, 2, 63, 64, 65, 300]))
        case 2 if len(items) > 1:
            items.extend(list(items)[::-1])
        case _ if field.message_type is None:
            items.append(value(field, random, None))
        case _:
            items.append(_part(field, random))


def _set(target: Message, name: str, content: Any) -> None:
    setattr(target, name, content)


def _bytes(random: Random, old: bytes) -> bytes:
    """Make the bytes of a tensor or picture, often a variation of what was there."""
    match random.randrange(6):
        case 0:
            return b""
        case 1:
            return old[: random.randint(0, len(old))]
        case 2:
            return old * random.choice([2, 3, 17])
        case 3 if len(old) >= 4:  # one number that is none
            position = 4 * random.randrange(len(old) // 4)
            return old[:position] + struct.pack("<f", random.choice(_NO_NUMBERS)) + old[position + 4 :]
        case 4:
            return old + random.randbytes(random.randint(1, 9))
        case _:
            return random.randbytes(random.choice([1, 4, 512, 5120, random.randint(1, 9000)]))
