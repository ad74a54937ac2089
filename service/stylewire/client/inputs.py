"""Inputs of calls: latents (``seed(7, psi=0.7)``, ``photo("a.png")``), styles, layers, noise.

Each returns a message of the API or a small value; nothing here talks to a server. Shapes as in ``latents.py``.
"""

import io
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, SupportsIndex, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from stylewire import pb
from stylewire.client.options import Alignment, NoiseMode, check_choice
from stylewire.codes import load_code
from stylewire.errors import UnsupportedError
from stylewire.latents import ROLE_RANGES_PX, Role, resolution_layers
from stylewire.tensors import to_tensor

if TYPE_CHECKING:
    import PIL.Image

Span: TypeAlias = tuple[int, int | None]
"""Layers from the first up to, but without, the second; None means all that follow."""
LatentLike: TypeAlias = pb.Latent | SupportsIndex
"""A latent, or an integer that stands for ``seed(integer)``."""
PhotoLike: TypeAlias = "str | os.PathLike[str] | bytes | PIL.Image.Image"
"""A path, the bytes of a PNG, JPEG or WebP file, or a Pillow image."""


@dataclass(frozen=True, slots=True)
class Resolutions:
    """Layers named by the resolutions they work at; a client turns them into a range once it knows the model.

    Attributes:
        low_px: the lowest resolution.
        high_px: the highest resolution, included.
    """

    low_px: int
    high_px: int

    def of(self, model: pb.Model) -> pb.LayerRange:
        """Find the layers in a model.

        Raises:
            UnsupportedError: the model has no such layers.
        """
        if not model.layers:
            raise UnsupportedError(f"model {model.name} has no style layers")
        try:
            rows = resolution_layers([layer.resolution_px for layer in model.layers], self.low_px, self.high_px)
        except ValueError as err:
            raise UnsupportedError(f"model {model.name}: {err}") from err
        return pb.LayerRange(start_layer=rows.start, end_layer=rows.stop)


LayerChoice: TypeAlias = Resolutions | Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A latent, the layers that are taken from it, and their weight; made by ``style``."""

    latent: pb.Latent
    layers: LayerChoice | None = None
    weight: float | None = None


def seed(
    number: SupportsIndex,
    *,
    psi: float | None = None,
    truncation_layers: Span | None = None,
    class_index: int | None = None,
    model: str = "",
) -> pb.Latent:
    """Make the latent of a seed: the same z as NVIDIA's ``generate.py --seeds``.

    >>> latent = seed(7, psi=0.7)
    >>> latent.seed, latent.truncation.psi
    (7, 0.7)

    Args:
        number: in [0, 2^32).
        psi: truncation, 1 keeps the code and 0 is the mean; None means no truncation.
        truncation_layers: the layers it applies to, such as ``(0, 4)``; None means all.
        class_index: the class, for conditional models only.
        model: whose mapping network makes the code; empty means the request's model.
    """
    latent = pb.Latent(seed=operator.index(number), model=model)
    return _conditioned(_truncated(latent, psi, truncation_layers), class_index)


def z(
    array: ArrayLike,
    *,
    psi: float | None = None,
    truncation_layers: Span | None = None,
    class_index: int | None = None,
    model: str = "",
) -> pb.Latent:
    """Make the latent of a z, float32[Z], normally distributed; the other arguments are those of ``seed``."""
    latent = pb.Latent(z=to_tensor(np.asarray(array, np.float32)), model=model)
    return _conditioned(_truncated(latent, psi, truncation_layers), class_index)


def w(
    array: ArrayLike, *, psi: float | None = None, truncation_layers: Span | None = None, model: str = ""
) -> pb.Latent:
    """Make the latent of a w, float32[D], the same on every layer; the other arguments are those of ``seed``."""
    latent = pb.Latent(w=to_tensor(np.asarray(array, np.float32)), model=model)
    return _truncated(latent, psi, truncation_layers)


def w_plus(
    code: "ArrayLike | os.PathLike[str]",
    *,
    psi: float | None = None,
    truncation_layers: Span | None = None,
    model: str = "",
) -> pb.Latent:
    """Make the latent of a complete code, float32[L, D], or of a file of one, which ``load_code`` reads.

    The other arguments are those of ``seed``.
    """
    array = load_code(code) if isinstance(code, str | os.PathLike) else np.asarray(code, np.float32)
    latent = pb.Latent(w_plus=to_tensor(array), model=model)
    return _truncated(latent, psi, truncation_layers)


def photo(  # noqa: PLR0913 - keyword-only but one
    picture: PhotoLike,
    *,
    encoder: str = "",
    landmarks: Sequence[tuple[float, float]] | None = None,
    align: bool | Alignment = False,
    psi: float | None = None,
    truncation_layers: Span | None = None,
    model: str = "",
) -> pb.Latent:
    """Make the latent of a picture, which an encoder of the server inverts.

    Args:
        picture: a path, the bytes of a PNG, JPEG or WebP file, or a Pillow image.
        encoder: which encoder; empty means the model's only one, or the one named ``encoder``.
        landmarks: 68 points (x, y) of a face in pixels of the picture, iBUG order, or 5: see ``pb.Landmarks``.
        align: ``face`` or True crops the face of a person as the FFHQ data set does, by ``landmarks`` or where the
            server finds one; ``anime`` crops that of a drawing.
        psi: truncation of the code; None means none.
        truncation_layers: the layers it applies to; None means all.
        model: whose encoder makes the code; empty means the request's model.

    Raises:
        OSError: the file cannot be read.
    """
    image = image_source(picture, encoder=encoder, landmarks=landmarks, align=align)
    return _truncated(pb.Latent(image=image, model=model), psi, truncation_layers)


def image_source(
    picture: PhotoLike,
    *,
    encoder: str = "",
    landmarks: Sequence[tuple[float, float]] | None = None,
    align: bool | Alignment = False,
) -> pb.ImageSource:
    """Make the message of a picture to be inverted; the arguments are those of ``photo``."""
    source = pb.ImageSource(content=_file_bytes(picture), encoder=encoder)
    if align:
        source.alignment = _alignment("face" if align is True else align)
    if landmarks is not None:
        source.landmarks.points.extend(pb.Point(x_px=float(x), y_px=float(y)) for x, y in landmarks)
    return source


def style(latent: LatentLike, layers: LayerChoice | None = None, weight: float | None = None) -> Style:
    """Choose the layers of a latent that replace those of the content in ``mix_styles``.

    Args:
        latent: a latent, or an integer that stands for ``seed(integer)``.
        layers: ``layers("coarse")``, ``resolutions(16, 32)`` or a span such as ``(0, 4)``; None means all.
        weight: in [0, 1]; 1 replaces the layers, less blends them. None means 1.
    """
    return Style(latent=to_latent(latent), layers=layers, weight=weight)


def layers(role: Role) -> Resolutions:
    """Name layers by what they decide.

    >>> layers("middle") == resolutions(16, 32)
    True
    >>> layers("eyes")
    Traceback (most recent call last):
    ValueError: role is 'eyes'; choose one of coarse, middle, fine

    Args:
        role: ``coarse`` (4 and 8 px), ``middle`` (16 and 32 px) or ``fine`` (64 px and up).
    """
    check_choice("role", role, tuple(ROLE_RANGES_PX))
    return Resolutions(*ROLE_RANGES_PX[role])


def resolutions(low_px: int, high_px: int | None = None) -> Resolutions:
    """Name layers by the resolutions they act on, both ends included.

    >>> resolutions(16, 32), resolutions(64)
    (Resolutions(low_px=16, high_px=32), Resolutions(low_px=64, high_px=64))

    Args:
        low_px: the lowest resolution, a power of two from 4.
        high_px: the highest resolution; None means the same as ``low_px``.
    """
    return Resolutions(low_px, low_px if high_px is None else high_px)


def noise(
    mode: NoiseMode | Literal["values"],
    *,
    seed: int | None = None,
    strength: float | None = None,
    values: ArrayLike | None = None,
) -> pb.Noise:
    """Choose the pixel noise of pictures.

    >>> noise("random", seed=3).seed
    3

    Args:
        mode: ``const`` (stored in the model), ``none``, ``random`` or ``values``.
        seed: for ``random``, in [0, 2^63); None means 0. Picture k of a call uses seed + k.
        strength: multiplies the noise, in [0, 10]; None means 1.
        values: for ``values``, float32[P]: the maps that ``Client.project`` found.
    """
    check_choice("noise", mode, (*get_args(NoiseMode), "values"))
    tensor = None if values is None else to_tensor(np.asarray(values, np.float32))
    return pb.Noise(mode=pb.Noise.Mode.Value(f"MODE_{mode.upper()}"), seed=seed, strength=strength, values=tensor)


def to_latent(latent: LatentLike, psi: float | None = None) -> pb.Latent:
    """Convert a latent, or the integer that stands for one.

    Args:
        latent: a latent, or an integer that stands for ``seed(integer)``.
        psi: truncation of a latent that has none of its own; None leaves it alone.

    Returns:
        A copy: the caller's latent is never changed.
    """
    result = pb.Latent()
    result.CopyFrom(latent if isinstance(latent, pb.Latent) else seed(latent))
    if psi is not None and not result.HasField("truncation"):
        result.truncation.psi = psi
    return result


def to_layer_range(span: Span) -> pb.LayerRange:
    """Convert a span; an open end stays unset."""
    start, end = span
    return pb.LayerRange(start_layer=start, end_layer=end)


def _alignment(kind: Alignment) -> pb.Alignment.ValueType:
    check_choice("align", kind, get_args(Alignment))
    return pb.Alignment.Value(f"ALIGNMENT_{kind.upper()}")


def _truncated(latent: pb.Latent, psi: float | None, span: Span | None) -> pb.Latent:
    if psi is not None:
        latent.truncation.psi = psi
    if span is not None:
        latent.truncation.layer_range.CopyFrom(to_layer_range(span))
    return latent


def _conditioned(latent: pb.Latent, class_index: int | None) -> pb.Latent:
    if class_index is not None:
        latent.class_index = class_index
    return latent


def _file_bytes(picture: PhotoLike) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | os.PathLike):
        return Path(picture).read_bytes()
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)  # local hop: speed before size
    return buffer.getvalue()
