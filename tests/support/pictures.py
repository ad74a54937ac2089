"""Pictures for requests, and pictures out of replies."""

import io
from importlib import resources
from pathlib import Path

import numpy as np
import xxhash
from PIL import Image

from stylewire import pb
from stylewire.media.provenance import read
from stylewire.tensors import to_array

_SAMPLES = resources.files("stylewire") / "demo" / "samples"


def avatar(index=0) -> bytes:
    """The PNG of a shipped sample, 64 px; the encoder of ``avatars`` has never seen it."""
    return (_SAMPLES / f"avatar{index:02}.png").read_bytes()


def pixels(image: pb.Image) -> np.ndarray:
    """uint8[H, W, C] of a picture in any form but TENSOR."""
    if image.WhichOneof("data") == "tensor":
        return to_array(image.tensor)
    array = np.asarray(Image.open(io.BytesIO(image.content)))
    return array if array.ndim == 3 else array[..., np.newaxis]


def shown(images) -> list[bytes]:
    """The pixels of some pictures, to tell whether they are equal whatever their files say beside that."""
    return [pixels(image).tobytes() for image in images]


def digest(array) -> str:
    """What a file says of a code, label or z, given as array or message."""
    numbers = to_array(array) if isinstance(array, pb.Tensor) else array
    return "xxh3:" + xxhash.xxh3_128_hexdigest(numbers.astype("<f4").tobytes())


def sources(pictures) -> list[str]:
    """What pictures were made of, as their files say."""
    return [read(picture.content).source for picture in pictures]


def worst_difference(images, others) -> int:
    """The largest difference of two lists of pictures, in 8-bit levels."""
    pairs = zip(images, others, strict=True)
    return max(int(np.abs(pixels(a).astype(int) - pixels(b)).max()) for a, b in pairs)


def saved(image: Image.Image, image_format="PNG", **options) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def five_points(side_px: float) -> pb.Landmarks:
    """Landmarks of an upright face that fills a square picture."""
    points = [(0.39, 0.47), (0.61, 0.47), (0.5, 0.58), (0.42, 0.69), (0.58, 0.69)]
    return pb.Landmarks(points=[pb.Point(x_px=x * side_px, y_px=y * side_px) for x, y in points])


def sixty_eight_points(side_px: float) -> pb.Landmarks:
    """The same face in the iBUG order: only eyes (36 to 47) and corners of the mouth (48, 54) matter."""
    left, right, _, mouth_left, mouth_right = five_points(side_px).points
    points = [pb.Point(x_px=side_px / 2, y_px=side_px / 2)] * 36 + [left] * 6 + [right] * 6
    points += [mouth_left] * 6 + [mouth_right] * 14
    return pb.Landmarks(points=points)


def astronaut() -> Image.Image:
    """A photograph of a person, 512 px; see tests/data/README.md."""
    with Image.open(Path(__file__).parent.parent / "data" / "astronaut.png") as photo:
        return photo.convert("RGB")


def sheet_of(*pictures: tuple[Image.Image, tuple[int, int]], size: tuple[int, int]) -> Image.Image:
    """Paste pictures onto gray at their places."""
    sheet = Image.new("RGB", size, "gray")
    for picture, place in pictures:
        sheet.paste(picture, place)
    return sheet


def grains(side_px: int = 300) -> Image.Image:
    """A picture in which nobody is."""
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (side_px, side_px, 3), np.uint8))
