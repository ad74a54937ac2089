"""Photo and landmarks -> the upright, centered crop that face models were trained on.

One recipe for both variants in use: pSp and e4e sample the crop at its final size, FFHQ at four times the size.

Source: Karras et al. 2018, "Progressive growing of GANs", appendix C (the alignment of CelebA-HQ, kept for FFHQ).
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from stylewire.latents import Array, Array64
from stylewire.media.codecs import ImageError

MIN_FACE_PX = 16
"""Smallest side of a crop in the photo; below, the landmarks' rounding decides the result."""

ANIME_SCALE = 1.5
"""Side of the crop of a drawn face over that of the detector's box, so that hair and chin are in it."""

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of an image."""

_BLOCK = 128  # rows of one product in gaussian: small enough that the band is most of its matrix


class Crop(NamedTuple):
    """A photo and the square to cut out of it.

    Attributes:
        image: RGB.
        corners: float64[4, 2], (x, y) in pixels: upper left, lower left, lower right, upper right.
        side_px: length of the square's side.
    """

    image: Image.Image
    corners: Array64
    side_px: float


def align(
    image: Image.Image,
    landmarks: Array64,
    *,
    output_px: int = 256,
    transform_px: int | None = None,
    rotated: bool = True,
) -> Image.Image:
    """Cut a face out of a photo.

    Args:
        image: a photo of any mode.
        landmarks: float64[68, 2] in the usual order (chin 0 to 16, brows, nose, left eye 36 to 41, right eye 42 to 47,
            mouth 48 to 67), or float64[5, 2]: left eye, right eye, nose, left and right corner of the mouth. (x, y) in
            pixels; left is left in the photo.
        output_px: side of the result.
        transform_px: side at which the photo is sampled before it is reduced to ``output_px``. Unset = ``output_px``,
            as pSp and e4e; FFHQ takes four times as much.
        rotated: turn the face upright; otherwise the crop is parallel to the photo.

    Returns:
        An RGB image, output_px x output_px.

    Raises:
        ImageError: the landmarks cannot be those of a face in this photo.
    """
    _check_landmarks(landmarks, image)
    corners, side_px = _square(landmarks, rotated=rotated)
    return _take(Crop(image.convert("RGB"), corners, side_px), output_px, transform_px or output_px)


def align_box(image: Image.Image, box: Box, *, output_px: int = 256) -> Image.Image:
    """Cut the square around a drawn face out of an image; where it leaves the image, it is padded as in ``align``.

    Args:
        image: an image of any mode.
        box: of the face's features, without hair; the square is 1.5 times as large.
        output_px: side of the result.

    Returns:
        An RGB image, output_px x output_px.

    Raises:
        ImageError: the square is too small.

    Source: Jin et al. 2017, "Towards the automatic anime characters creation with generative adversarial networks",
    section 2 (the data set).
    """
    left, top, right, bottom = box
    half_px = max(right - left, bottom - top) * ANIME_SCALE / 2
    _check_side(2 * half_px)
    center = np.array([left + right, top + bottom]) / 2 - 0.5  # takes back what the FFHQ rule adds when it samples
    corners = center + half_px * np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    return _take(Crop(image.convert("RGB"), corners, 2 * half_px), output_px, output_px)


def _take(crop: Crop, output_px: int, transform_px: int) -> Image.Image:
    """Sample the square at ``transform_px``, then reduce it."""
    crop = _shrink(crop, output_px)
    border_px = max(round(crop.side_px * 0.1), 3)
    crop = _pad(_cut(crop, border_px), border_px)
    aligned = crop.image.transform(
        (transform_px, transform_px),
        Image.Transform.QUAD,
        tuple((crop.corners + 0.5).ravel()),
        Image.Resampling.BILINEAR,
    )
    return aligned.resize((output_px, output_px), Image.Resampling.LANCZOS) if output_px < transform_px else aligned


def _check_landmarks(landmarks: Array64, image: Image.Image) -> None:
    if landmarks.shape not in {(68, 2), (5, 2)}:
        raise ImageError(f"landmarks have the shape {landmarks.shape}; 68 or 5 points (x, y) are needed")
    # Also keeps the padding in proportion to the photo. A face may be cut off, so points may lie a bit outside.
    reach_px = max(image.size)
    if not np.all((landmarks >= -reach_px) & (landmarks <= np.add(image.size, reach_px))):
        raise ImageError(
            f"landmarks lie far outside of the photo of {image.size[0]} x {image.size[1]} px; use its pixels"
        )


def _square(landmarks: Array64, *, rotated: bool) -> tuple[Array64, float]:
    """Lay the square around eyes and mouth.

    Args:
        landmarks: float64[68, 2] or float64[5, 2].
        rotated: whether it is turned with the face.

    Returns:
        Its corners float64[4, 2], and the length of its side in pixels.
    """
    if len(landmarks) == 5:
        eye_left, eye_right, _, mouth_left, mouth_right = landmarks
    else:
        eye_left, eye_right = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
        mouth_left, mouth_right = landmarks[48], landmarks[54]
    eyes, eye_to_eye = (eye_left + eye_right) * 0.5, eye_right - eye_left
    eye_to_mouth = (mouth_left + mouth_right) * 0.5 - eyes
    x = eye_to_eye - _quarter_turn(eye_to_mouth) if rotated else np.array([1.0, 0.0])
    half_px = max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    length = np.hypot(*x)
    _check_side(2 * half_px if length else 0.0)
    x *= half_px / length
    y = _quarter_turn(x)
    center = eyes + eye_to_mouth * 0.1
    corners = np.stack([center - x - y, center - x + y, center + x + y, center + x - y])
    return corners, float(np.hypot(*x) * 2)


def _check_side(side_px: float) -> None:
    if side_px < MIN_FACE_PX:
        raise ImageError(f"the face spans a crop of {side_px:.1f} px; at least {MIN_FACE_PX} px are needed")


def _quarter_turn(v: Array64) -> Array64:
    """Turn float64[2], (x, y), clockwise as seen in the photo, where y points down."""
    return np.array([-v[1], v[0]])


def _shrink(crop: Crop, output_px: int) -> Crop:
    """Reduce a photo that is much larger than the result, by a whole factor."""
    factor = int(crop.side_px / output_px * 0.5)
    if factor <= 1:
        return crop
    size = (round(crop.image.width / factor), round(crop.image.height / factor))
    if min(size) < 1:
        raise ImageError(f"the landmarks span a crop of {crop.side_px:.0f} px, far larger than the photo")
    return Crop(crop.image.resize(size, Image.Resampling.LANCZOS), crop.corners / factor, crop.side_px / factor)


def _bounds(crop: Crop) -> tuple[int, int, int, int]:
    """Return the whole pixels around the corners: left, top, right, bottom."""
    left, top = np.floor(crop.corners.min(axis=0))
    right, bottom = np.ceil(crop.corners.max(axis=0))
    return int(left), int(top), int(right), int(bottom)


def _cut(crop: Crop, border_px: int) -> Crop:
    """Cut away what is farther than the border from the square."""
    left, top, right, bottom = _bounds(crop)
    box = (
        max(left - border_px, 0),
        max(top - border_px, 0),
        min(right + border_px, crop.image.width),
        min(bottom + border_px, crop.image.height),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ImageError("the face lies outside of the photo; landmarks must be in its pixels")
    if box == (0, 0, *crop.image.size):
        return crop
    return crop._replace(image=crop.image.crop(box), corners=crop.corners - box[:2])


def _pad(crop: Crop, border_px: int) -> Crop:
    """Continue the photo where the square leaves it: mirrored, blurred, and fading to its median color."""
    left, top, right, bottom = _bounds(crop)
    needs = (
        max(-left + border_px, 0),
        max(-top + border_px, 0),
        max(right - crop.image.width + border_px, 0),
        max(bottom - crop.image.height + border_px, 0),
    )
    if max(needs) <= border_px - 4:
        return crop
    left, top, right, bottom = (max(need, round(crop.side_px * 0.3)) for need in needs)
    pixels = np.asarray(crop.image, np.float32)  # [H, W, 3]
    pixels = np.pad(pixels, ((top, bottom), (left, right), (0, 0)), mode="reflect")
    fade = _fade(pixels.shape[:2], (left, top, right, bottom))[..., np.newaxis]  # [H, W, 1]
    pixels += (gaussian(pixels, crop.side_px * 0.02) - pixels) * np.clip(fade * 3 + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(fade, 0, 1)
    padded = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    return crop._replace(image=padded, corners=np.add(crop.corners, (left, top)))


def _fade(shape: tuple[int, ...], padding: tuple[int, int, int, int]) -> Array:
    """Measure how deep each pixel lies in the padding: float32[H, W], 1 at the rim, 0 where the photo begins."""
    height_px, width_px = shape
    left, top, right, bottom = (np.float32(each) for each in padding)
    x = np.arange(width_px, dtype=np.float32)
    y = np.arange(height_px, dtype=np.float32)[:, np.newaxis]
    across: Array = 1 - np.minimum(x / left, (width_px - 1 - x) / right)
    down: Array = 1 - np.minimum(y / top, (height_px - 1 - y) / bottom)
    return np.maximum(across, down)


def gaussian(pixels: Array, sigma_px: float) -> Array:
    """Blur float32[H, W, C] as ``scipy.ndimage.gaussian_filter``: cut at 4 sigma, the edge mirrored with itself.

    Each pass is a product with a band matrix, in blocks: many times faster than a sum over shifted copies.
    """
    radius = int(4 * sigma_px + 0.5)
    kernel = np.exp(-0.5 / sigma_px**2 * np.arange(-radius, radius + 1) ** 2)
    band = np.zeros((_BLOCK, _BLOCK + 2 * radius))
    for row in range(_BLOCK):
        band[row, row : row + len(kernel)] = kernel / kernel.sum()
    for _ in range(2):
        # Down the columns, then, by the swap of the axes, along the rows.
        padded = np.pad(pixels, ((radius, radius), (0, 0), (0, 0)), mode="symmetric").astype(np.float64)
        flat = padded.reshape(len(padded), -1)  # [H + 2 * radius, W * C]
        blocks = [
            band[: len(block) - 2 * radius, : len(block)] @ block
            for start in range(0, len(pixels), _BLOCK)
            for block in [flat[start : start + _BLOCK + 2 * radius]]
        ]
        pixels = np.concatenate(blocks).astype(np.float32).reshape(pixels.shape).swapaxes(0, 1)  # [W, H, C]
    return pixels
