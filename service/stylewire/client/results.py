"""What a client returns: pictures with their code, timing and provenance."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from stylewire import pb
from stylewire.files import replacing
from stylewire.media import xmp
from stylewire.media.provenance import Provenance, read
from stylewire.tensors import Array, to_array, to_float_array

if TYPE_CHECKING:
    import os

    import PIL.Image

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/webp": (".webp",),
}


class Timing(NamedTuple):
    """Where the server's time of a call went.

    Attributes:
        queue_seconds: waiting for the networks.
        inference_seconds: running the networks.
        encoding_seconds: decoding and encoding pictures.
    """

    queue_seconds: float
    inference_seconds: float
    encoding_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A picture as the server sent it.

    Attributes:
        content: the bytes of a file; empty when ``tensor`` is there.
        mime_type: media type of ``content``, such as ``image/png``.
        tensor: for the format ``tensor`` float32[C, H, W], for ``pixels`` uint8[H, W, C]; None for files.
        width_px: width.
        height_px: height.
    """

    content: bytes = field(repr=False)
    mime_type: str
    tensor: NDArray[np.float32] | NDArray[np.uint8] | None = field(repr=False)
    width_px: int
    height_px: int

    @classmethod
    def read(cls, image: pb.Image) -> Self:
        """Convert the message of an image; ``tensor`` views its bytes."""
        return cls(**_picture_fields(image))

    @property
    def image(self) -> "PIL.Image.Image":
        """The picture as a Pillow image, decoded anew at each access.

        Raises:
            ValueError: the format is ``tensor``, which has no pixels.
        """
        import PIL.Image  # noqa: PLC0415 - Pillow's import costs 50 ms that bytes and arrays do not need

        if self.tensor is None:
            image = PIL.Image.open(io.BytesIO(self.content))
            image.load()
            return image
        pixels = self.array
        return PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)

    @property
    def array(self) -> NDArray[np.uint8]:
        """The picture as uint8[H, W, C], C = 1, 3 or 4.

        Raises:
            ValueError: the format is ``tensor``, which has no pixels.
        """
        if self.tensor is None:
            pixels = np.asarray(self.image, np.uint8)
            return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
        if self.tensor.dtype != np.uint8:
            raise ValueError('format "tensor" has no pixels: read .tensor, or ask for "pixels" or "png"')
        return self.tensor.astype(np.uint8, copy=False)

    @property
    def provenance(self) -> Provenance | None:
        """The provenance in the file; None for arrays, for a caller's own photo and if the server writes none.

        Raises:
            ImageError: the file is damaged.
        """
        return read(self.content) if self.content else None

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write the picture to a file of the format that its suffix names.

        The server's own bytes are written when they are of that format; otherwise Pillow converts, and the
        provenance is copied where the format can carry it (PNG, JPEG, WebP, GIF).
        The file is whole or absent, whatever happens meanwhile.

        Raises:
            OSError: the file cannot be written.
            ValueError: the suffix is unknown.
        """
        target = Path(path)
        with replacing(target) as draft:
            if target.suffix.lower() in _SUFFIXES.get(self.mime_type, ()):
                draft.write_bytes(self.content)
            else:
                self._convert(draft)
        return target

    def _convert(self, path: Path) -> None:
        image = self.image
        image.info.pop("xmp", None)  # some versions of Pillow would write it too
        image.save(path)
        packet = xmp.extract(self.content) if self.content else None
        if packet is not None:
            xmp.embed_in_file(path, packet)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result(Picture):
    """A generated picture, and how it was made.

    Attributes:
        code: float32[L, D] after truncation and mixing; None unless asked for.
        seed: of the latent; None if it was made of something else, or of several.
        timing: the server's time for the call.
        batch_size: how many items the networks ran together.
        model_digest: the same digest means the same pictures.
    """

    code: Array | None = field(repr=False)
    seed: int | None = None
    timing: Timing
    batch_size: int
    model_digest: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame(Result):
    """A picture of an interpolation.

    Attributes:
        index: the number of the frame, from 0.
    """

    index: int


@dataclass(frozen=True, slots=True)
class Face:
    """The face that the server found, for the alignment; the largest of the picture.

    Attributes:
        count: the faces in the picture.
        box: left, top, right, bottom in pixels of the picture, as the detector returns it.
        landmarks: 68 points (x, y) in pixels of the picture; passed to ``invert`` with it, no face is searched.
            Empty for drawings.
    """

    count: int
    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]

    @classmethod
    def read(cls, face: pb.Face) -> Self:
        """Convert the message of a face; points become pairs."""
        box = face.box
        points = tuple((point.x_px, point.y_px) for point in face.landmarks.points)
        return cls(face.count, (box.left_px, box.top_px, box.right_px, box.bottom_px), points)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inversion:
    """The code of a picture.

    Attributes:
        code: float32[L, D]; ``w_plus(code)`` makes a latent of it.
        aligned: what the encoder saw; None for label maps.
        reconstruction: the generator's picture of the code; None unless asked for.
        distortion: mean squared difference of both over values in [-1, 1]; None unless it could be computed.
        face: the face that the picture was aligned by, if the server searched for it.
        timing: the server's time for the call.
        batch_size: how many items the networks ran together.
        model_digest: the same digest means the same code.
    """

    code: Array = field(repr=False)
    aligned: Picture | None
    reconstruction: Picture | None
    distortion: float | None
    face: Face | None
    timing: Timing
    batch_size: int
    model_digest: str


class _PictureFields(TypedDict):
    content: bytes
    mime_type: str
    tensor: NDArray[np.float32] | NDArray[np.uint8] | None
    width_px: int
    height_px: int


class _CallFields(TypedDict):
    timing: Timing
    batch_size: int
    model_digest: str


def read_generate(response: pb.GenerateResponse, request: pb.GenerateRequest) -> list[Result]:
    """Convert the response of Generate; seeds are those of the request."""
    codes: list[Array | None] = [_code(tensor) for tensor in response.codes]
    seeds = [latent.seed if latent.HasField("seed") else None for latent in request.latents]
    call = _call_fields(response)
    return [
        Result(code=code, seed=seed, **_picture_fields(image), **call)
        for image, code, seed in zip(response.images, codes or [None] * len(seeds), seeds, strict=True)
    ]


def read_invert(response: pb.InvertResponse) -> Inversion:
    """Convert the response of Invert."""
    return Inversion(
        code=_code(response.code),
        aligned=Picture.read(response.aligned) if response.HasField("aligned") else None,
        reconstruction=Picture.read(response.reconstruction) if response.HasField("reconstruction") else None,
        distortion=response.distortion if response.HasField("distortion") else None,
        face=Face.read(response.face) if response.HasField("face") else None,
        **_call_fields(response),
    )


def read_mix(response: pb.MixStylesResponse) -> Result:
    """Convert the response of MixStyles."""
    code = _code(response.code) if response.HasField("code") else None
    return Result(code=code, **_picture_fields(response.image), **_call_fields(response))


def read_frame(response: pb.InterpolateResponse) -> Frame:
    """Convert one frame of Interpolate."""
    code = _code(response.code) if response.HasField("code") else None
    picture, call = _picture_fields(response.image), _call_fields(response)
    return Frame(index=response.frame_index, code=code, **picture, **call)


def read_timing(spent: pb.Timing) -> Timing:
    """Convert the server's times to seconds."""
    return Timing(*(part.ToTimedelta().total_seconds() for part in (spent.queue, spent.inference, spent.encoding)))


def _code(tensor: pb.Tensor) -> Array:
    return to_float_array(tensor, tuple(tensor.shape))


def _picture_fields(image: pb.Image) -> _PictureFields:
    return _PictureFields(
        content=image.content,
        mime_type=image.mime_type,
        tensor=to_array(image.tensor) if image.HasField("tensor") else None,
        width_px=image.width_px,
        height_px=image.height_px,
    )


def _call_fields(
    response: pb.GenerateResponse | pb.InvertResponse | pb.MixStylesResponse | pb.InterpolateResponse,
) -> _CallFields:
    return _CallFields(
        timing=read_timing(response.timing), batch_size=response.batch.size, model_digest=response.model_digest
    )
