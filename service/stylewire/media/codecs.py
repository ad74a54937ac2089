"""Pixels to PNG, JPEG and WebP and back, with limits that hold before a pixel is decoded.

Pictures from outside go through ``decode``; pixels from a graph go through ``resize`` and ``encode``. All functions are
safe in threads and do their heavy part without the GIL.
"""

import struct
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from stylewire.media.image_headers import PNG_SIGNATURE, Header, ImageError, ImageFormat, read_header

__all__ = [
    "DEFAULT_QUALITY",
    "MAX_SIDE_PX",
    "ImageError",
    "ImageFormat",
    "Pixels",
    "check",
    "decode",
    "encode",
    "resize",
    "to_image",
]

Pixels = NDArray[np.uint8]

DEFAULT_QUALITY = 90
"""Quality of JPEG and WebP when none is asked for; WebP is always lossy (PNG is the lossless choice)."""

MAX_SIDE_PX = 16384
"""Longest side that is decoded: a picture one pixel high makes resampling tables as large as a bomb."""

_DECODERS: dict[ImageFormat, type[ImageFile]] = {
    ImageFormat.PNG: PngImageFile,
    ImageFormat.JPEG: JpegImageFile,
    ImageFormat.WEBP: WebPImageFile,
}
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error)
"""What Pillow raises on damaged files."""


def decode(content: bytes, *, max_bytes: int, max_pixels: int) -> Image.Image:
    """Decode a picture from outside. Metadata is dropped unread: EXIF orientation and color profiles do nothing.

    Args:
        content: a PNG, JPEG or WebP file; its content decides which.
        max_bytes: limit of the file's size.
        max_pixels: limit of width times height.

    Returns:
        The loaded picture, mode ``L``, ``LA``, ``RGB``, ``RGBA`` or, for a PNG with a palette, ``P``.

    Raises:
        ImageError: anything is wrong with the picture.
    """
    header = check(content, max_bytes=max_bytes, max_pixels=max_pixels)
    try:
        image = _open(header)
        image.load()
    except _DECODER_ERRORS as err:
        raise ImageError(f"the {header.image_format} file is damaged or truncated; save or send it again") from err
    return image.convert("L") if image.mode == "1" else image


def check(content: bytes, *, max_bytes: int, max_pixels: int) -> Header:
    """Check a picture against the limits without decoding it; arguments and errors are those of ``decode``."""
    if len(content) > max_bytes:
        raise ImageError(f"the picture has {len(content)} bytes, the limit is {max_bytes}; send a smaller one")
    header = read_header(content)
    _check_size(header, max_pixels)
    return header


def _open(header: Header) -> Image.Image:
    # The class itself, not Image.open: no second guess at the format and no warnings about what the limits decide.
    image = _DECODERS[header.image_format](BytesIO(header.essence))
    if image.size != (header.width_px, header.height_px):
        raise ImageError(f"the header has {header.width_px} x {header.height_px} px, the decoder {image.size}")
    return image


def _check_size(header: Header, max_pixels: int) -> None:
    width_px, height_px = header.width_px, header.height_px
    found = f"the picture is {width_px} x {height_px} px"
    if width_px < 1 or height_px < 1:
        raise ImageError(f"{found}; it needs at least 1 x 1")
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise ImageError(f"{found}, the limit of a side is {MAX_SIDE_PX} px; send a smaller one")
    if width_px * height_px > max_pixels:
        raise ImageError(f"{found}, the limit is {max_pixels} pixels in all; send a smaller one")


def encode(pixels: Pixels, image_format: ImageFormat, quality: int | None = None) -> bytes:
    """Compress an image. The file has no metadata: see ``provenance`` for that.

    Args:
        pixels: uint8[H, W, C]; C is 1 gray, 2 gray with alpha, 3 RGB, 4 RGBA.
        image_format: JPEG has no alpha; PNG is lossless.
        quality: 1 to 100, unset = ``DEFAULT_QUALITY``; means nothing to PNG.

    Returns:
        The bytes of the file.

    Raises:
        ImageError: the quality is out of range, or the format cannot hold the channels.
    """
    height_px, width_px, channel_count = pixels.shape
    if quality is not None and not 1 <= quality <= 100:
        raise ImageError(f"quality {quality} is outside of 1 to 100; leave it unset for {DEFAULT_QUALITY}")
    if not (height_px and width_px and 1 <= channel_count <= 4):
        raise ImageError(f"pixels of shape {pixels.shape} are no image; [H, W, C] with 1 to 4 channels is")
    match image_format:
        case ImageFormat.PNG:
            return _encode_png(pixels)
        case ImageFormat.JPEG if channel_count in (2, 4):
            raise ImageError(f"JPEG has no alpha and the image has {channel_count} channels; ask for PNG or WebP")
        case ImageFormat.JPEG:
            return _encode_jpeg(np.ascontiguousarray(pixels), quality or DEFAULT_QUALITY)
        case ImageFormat.WEBP:
            # Method 0: half the time of the default, for files a tenth larger.
            return _save(to_image(pixels), "WEBP", quality=quality or DEFAULT_QUALITY, method=0)


def resize(pixels: Pixels, resolution_px: int) -> Pixels:
    """Reduce a square image (Lanczos).

    Args:
        pixels: uint8[R, R, C].
        resolution_px: 1 to R.

    Returns:
        uint8[resolution_px, resolution_px, C]; ``pixels`` itself if that is its size.

    Raises:
        ImageError: the image would have to grow.
    """
    if resolution_px == pixels.shape[0]:
        return pixels
    if not 1 <= resolution_px < pixels.shape[0]:
        raise ImageError(f"resolution {resolution_px} px is outside of 1 to {pixels.shape[0]} px, the model's own")
    reduced = to_image(pixels).resize((resolution_px, resolution_px), Image.Resampling.LANCZOS)
    return np.asarray(reduced).reshape(resolution_px, resolution_px, -1)  # Pillow drops the axis of one channel


def to_image(pixels: Pixels) -> Image.Image:
    """View uint8[H, W, C] as a Pillow image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _save(image: Image.Image, image_format: str, **options: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _encode_png(pixels: Pixels) -> bytes:
    """Write a PNG with the Up filter: the one filter that numpy computes in a single pass.

    Source: PNG specification, third edition, sections 9 (filtering) and 11 (chunks).
    """
    height_px, width_px, channel_count = pixels.shape
    rows = pixels.reshape(height_px, width_px * channel_count)
    filtered = np.empty((height_px, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 2  # Up
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])  # modulo 256, as the format wants
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channel_count]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, color_type, 0, 0, 0)),
        (b"IDAT", _deflate(filtered)),
        (b"IEND", b""),
    ]
    return PNG_SIGNATURE + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))))


def _find_deflate() -> Callable[[Pixels], bytes]:
    """Choose what compresses PNG: isal is several times as fast as zlib for the same size."""
    try:
        from isal import isal_zlib  # noqa: PLC0415 part of [server]; a client does without
    except ImportError:
        return partial(zlib.compress, level=1)
    return partial(isal_zlib.compress, level=1)


def _find_jpeg() -> Callable[[Pixels, int], bytes]:
    """Choose what compresses JPEG; both write 4:4:4, since halved color resolution shows in small images."""
    try:
        import simplejpeg  # noqa: PLC0415 part of [server]; a client does without
    except ImportError:
        return lambda pixels, quality: _save(to_image(pixels), "JPEG", quality=quality, subsampling=0)

    def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
        colors = ("GRAY", "Gray") if pixels.shape[2] == 1 else ("RGB", "444")
        return bytes(simplejpeg.encode_jpeg(pixels, quality, *colors))

    return encode_jpeg


_deflate = _find_deflate()
_encode_jpeg = _find_jpeg()
