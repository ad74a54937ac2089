"""Image -> encoder input, as the encoders saw it in training.

Every kind is resized to exactly H x W without keeping the aspect ratio, with Pillow's bilinear filter, on bytes.

Source: the transforms of pixel2style2pixel and encoder4editing, quirks included.
"""

from typing import assert_never

import numpy as np
from PIL import Image

from stylewire.latents import Array, Array64
from stylewire.manifest import EncoderInfo
from stylewire.media.codecs import ImageError, Pixels


def encoder_input(image: Image.Image, encoder: EncoderInfo) -> Array:
    """Turn a decoded image into the input of an encoder.

    Returns:
        float32[C, H, W] of the encoder's sizes.

    Raises:
        ImageError: a label map that does not hold label ids.
    """
    height_px, width_px = encoder.input_height_px, encoder.input_width_px
    match encoder.input_kind:
        case "photo":
            return photo_input(image, height_px, width_px, reduction=encoder.reduction)
        case "sketch":
            return sketch_input(image, height_px, width_px)
        case "labels":
            return labels_input(image, height_px, width_px, label_count=encoder.input_channels)
        case _:
            assert_never(encoder.input_kind)


def photo_input(image: Image.Image, height_px: int, width_px: int, *, reduction: int | None = None) -> Array:
    """Scale the colors of an image to [-1, 1]; alpha is dropped, not composed.

    Args:
        image: an image of any mode.
        height_px: H.
        width_px: W.
        reduction: reduce the resized image by this factor first, as the training for super-resolution did.

    Returns:
        float32[3, H, W].
    """
    resized = _resize(image.convert("RGB"), height_px, width_px)
    if reduction is not None:
        reduced = reduce_bicubic(np.asarray(resized), reduction).astype(np.uint8)  # truncates, as the original
        resized = _resize(Image.fromarray(reduced), height_px, width_px)
    photo: Array = (_unit(np.asarray(resized)) - np.float32(0.5)) / np.float32(0.5)
    return photo


def sketch_input(image: Image.Image, height_px: int, width_px: int) -> Array:
    """Scale the gray levels of an image of any mode to [0, 1].

    Args:
        image: of any mode.
        height_px: H.
        width_px: W.

    Returns:
        float32[1, H, W].
    """
    return _unit(np.asarray(_resize(image.convert("L"), height_px, width_px))[..., np.newaxis])


def labels_input(image: Image.Image, height_px: int, width_px: int, *, label_count: int) -> Array:
    """Turn an image whose gray levels are label ids into one channel per label.

    The ids are resized with the same bilinear filter as photos: between two regions they blend into ids of others. The
    network saw that in training, so it is kept.

    Args:
        image: gray, or of equal channels.
        height_px: H.
        width_px: W.
        label_count: C, the labels of the encoder.

    Returns:
        float32[label_count, H, W], 1 where the id is the channel's and 0 elsewhere.

    Raises:
        ImageError: the gray levels are no ids of this encoder.
    """
    ids = np.asarray(_resize(_gray_ids(image), height_px, width_px))
    if ids.max() >= label_count:
        raise ImageError(
            f"the label map holds id {ids.max()}, this encoder knows 0 to {label_count - 1}; "
            "send an 8-bit gray PNG whose levels are the ids"
        )
    one_hot: Array = np.equal(ids, np.arange(label_count)[:, np.newaxis, np.newaxis]).astype(np.float32)  # [C, H, W]
    return one_hot


def _gray_ids(image: Image.Image) -> Image.Image:
    if image.mode == "P":
        raise ImageError(
            "the label map has a palette, whose colors would turn into meaningless ids; "
            "send an 8-bit gray PNG whose levels are the ids"
        )
    if image.mode in {"RGB", "RGBA"}:
        red, green, blue = np.moveaxis(np.asarray(image)[..., :3], -1, 0)  # 3 x [H, W]
        if not (np.array_equal(red, green) and np.array_equal(green, blue)):
            raise ImageError("the label map is colored; send an 8-bit gray PNG whose levels are the ids")
    return image.convert("L")


def reduce_bicubic(pixels: Pixels, factor: int) -> Array64:
    """Reduce an image as the training for super-resolution did.

    Mirrored at the borders (edge not repeated), then a cubic kernel of ``4 * factor`` taps with that stride, first down
    the columns, then along the rows. Factor 1 blurs and shifts by half a pixel: that is the original's.

    Args:
        pixels: uint8[H, W, C].
        factor: at least 1.

    Returns:
        float64[H / factor, W / factor, C] in [0, 255]; on this scale a whole result is exactly whole.

    Source: Keys 1981, "Cubic convolution interpolation", with a = -1/2.
    """
    distance = np.abs((np.arange(4 * factor) - 2 * factor + 0.5) / factor)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    kernel = np.where(distance <= 1, near, far)
    kernel /= kernel.sum()
    reduced = pixels.astype(np.float64)
    for axis in (0, 1):
        before = 3 * factor // 2
        padding = [(before, 3 * factor - before) if each == axis else (0, 0) for each in range(3)]
        padded = np.pad(reduced, padding, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 4 * factor, axis)  # a new last axis: the taps
        reduced = np.moveaxis(np.moveaxis(windows, axis, 0)[::factor] @ kernel, 0, axis)  # [H / factor, W, C] first
    return np.clip(reduced, 0, 255)


def _resize(image: Image.Image, height_px: int, width_px: int) -> Image.Image:
    return image.resize((width_px, height_px), Image.Resampling.BILINEAR)


def _unit(pixels: Pixels) -> Array:
    """Scale uint8[H, W, C] to float32[C, H, W] in [0, 1]."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0), np.float32) / np.float32(255)  # [C, H, W]
