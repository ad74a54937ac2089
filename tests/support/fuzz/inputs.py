"""Input number n of a seed: always the same bytes, so that a number is all it takes to see one again."""

from random import Random
from typing import NamedTuple

from stylewire import pb
from support.fuzz import messages, pictures
from support.fuzz.damage import damage, trick

METHODS = ("Generate", "Invert", "MixStyles", "Interpolate", "Project", "ListModels", "GetModel")
KINDS = {
    "valid": 2,
    "fields": 34,
    "invented": 10,
    "wire format": 12,
    "bytes": 18,
    "png": 9,
    "jpeg": 8,
    "webp": 6,
    "bomb": 1,
}
"""Kinds of inputs with their shares in percent."""


class Input(NamedTuple):
    """A request, in the bytes that a client would send.

    Attributes:
        kind: how it was made.
        method: whom it is for.
        content: the bytes.
    """

    kind: str
    method: str
    content: bytes


def numbered(seed: int, number: int) -> Input:
    """Make the input of a number."""
    random = Random(f"{seed}:{number}")
    return make(random.choices(list(KINDS), list(KINDS.values()))[0], random)


def make(kind: str, random: Random) -> Input:
    """Make an input of a kind."""
    if kind in ("png", "jpeg", "webp", "bomb"):
        content = pictures.bomb(random) if kind == "bomb" else pictures.picture(kind, random)
        return _with_picture(kind, content, random)
    method, message = messages.valid(random)
    if kind == "invented":
        message.Clear()
        messages.invent(message, random)
    elif kind == "fields":
        for _ in range(random.choice([1, 1, 2, 3, 8])):
            messages.mutate(message, random)
    content = message.SerializeToString()
    if kind == "wire format":
        content = trick(content, random, _other(method, random))
    elif kind == "bytes":
        content = damage(content, random, _other(method, random))
    return Input(kind, method, content)


def _other(method: str, random: Random) -> bytes:
    """Make another valid request, of the same method if one is soon found."""
    for _ in range(8):
        found, message = messages.valid(random)
        if found == method:
            break
    return message.SerializeToString()


def _with_picture(kind: str, content: bytes, random: Random) -> Input:
    image = pb.ImageSource(content=content)
    if random.random() < 0.1:  # aligning reads pixels where the face is said to be
        image.alignment = pb.ALIGNMENT_FACE
        side = random.choice([20, 24, 64, 3000])
        spread = [pb.Point(x_px=side * x, y_px=side * (y + random.uniform(-0.1, 0.1))) for x, y in messages.FACE]
        image.landmarks.points.extend(spread)
    if random.random() < 0.5:
        return Input(kind, "Invert", pb.InvertRequest(image=image).SerializeToString())
    return Input(kind, "Generate", pb.GenerateRequest(latents=[pb.Latent(image=image)]).SerializeToString())
