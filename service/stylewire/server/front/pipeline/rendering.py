"""Arrays from graphs -> images in the form that was asked for."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from itertools import repeat
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stylewire import latents
from stylewire.latents import Array
from stylewire.media import codecs, xmp
from stylewire.media.codecs import ImageFormat, Pixels
from stylewire.server.engine_api.graphs import Arrays
from stylewire.server.front.pipeline import jobs
from stylewire.server.front.pipeline.results import Image
from stylewire.server.front.preprocessing.photos import AlignedPhoto

Mark: TypeAlias = Callable[[int], bytes]
"""Row of a job -> the packet that its file carries; called in threads."""

_LARGE_BYTES = 1 << 20
"""Images that are worth several threads: encoding them takes milliseconds."""


def graph_output(output: jobs.Output) -> str:
    """Name the output of the synthesis graph that this form is made of."""
    return "image" if output.form == "tensor" else "pixels"


def encode(
    array: NDArray[np.uint8] | NDArray[np.float32], output: jobs.Output, mark: Mark | None = None, row: int = 0
) -> Image:
    """Bring one image into its form.

    Args:
        array: ``image`` float32[C, H, W] for the form tensor, else ``pixels`` uint8[H, W, C].
        output: the form.
        mark: what a file says about its origin; None for nothing.
        row: of the job.
    """
    if output.form == "tensor":
        return Image(width_px=array.shape[2], height_px=array.shape[1], array=array)
    pixels = np.asarray(array, np.uint8)
    if output.resolution_px is not None:
        pixels = codecs.resize(pixels, output.resolution_px)
    height_px, width_px = pixels.shape[:2]
    if output.form == "pixels":
        return Image(width_px=width_px, height_px=height_px, array=pixels)
    content = codecs.encode(pixels, ImageFormat(output.form), output.quality)
    if mark:
        content = xmp.embed(content, mark(row))
    return Image(width_px=width_px, height_px=height_px, content=content, mime_type=f"image/{output.form}")


def encode_rows(output: jobs.Output, executor: Executor, mark: Mark | None, rows: Arrays, start: int) -> list[Image]:
    """Bring the rows of a job from ``start`` on into their form, side by side where that is worth it."""
    arrays = rows[graph_output(output)]
    numbers = range(start, start + len(arrays))
    if len(arrays) > 1 and arrays.nbytes > _LARGE_BYTES:
        return list(executor.map(encode, arrays, repeat(output), repeat(mark), numbers))
    return [encode(array, output, mark, row) for row, array in zip(numbers, arrays, strict=True)]


def show_input(photo: AlignedPhoto) -> Pixels | None:
    """Show what the encoder sees: uint8[H, W, 3 or 1]; None for label maps."""
    if photo.kind == "labels":
        return None
    unit = photo.input * 0.5 + 0.5 if photo.kind == "photo" else photo.input  # [C, H, W] in [0, 1]
    return np.rint(unit * 255).astype(np.uint8).transpose(1, 2, 0)  # [H, W, C]


def show_target(target: Array) -> Pixels:
    """Show float32[C, R, R] in [-1, 1] as uint8[R, R, C]."""
    pixels: Pixels = np.rint((target * 0.5 + 0.5) * 255).astype(np.uint8).transpose(1, 2, 0)  # [R, R, C]
    return pixels


def encode_target(target: Array, output: jobs.Output) -> Image:
    """Bring the image that a code was to reach into the form of the reply."""
    return encode(target if output.form == "tensor" else show_target(target), output)


def encode_input(photo: AlignedPhoto, seen: Pixels, output: jobs.Output) -> Image:
    """Bring what an encoder saw into the form of the reply, at its own size."""
    return encode(photo.input if output.form == "tensor" else seen, replace(output, resolution_px=None))


def distortion(pixels: Pixels, seen: Pixels) -> float | None:
    """Compare a reconstruction with its original at the smaller of both sizes.

    Args:
        pixels: uint8[R, R, C].
        seen: uint8[H, W, C].

    Returns:
        The mean squared difference over values in [-1, 1]; None where the two cannot be compared.
    """
    if pixels.shape[2] != seen.shape[2] or seen.shape[0] != seen.shape[1]:
        return None
    side_px = min(pixels.shape[0], seen.shape[0])
    reconstructed, original = (codecs.resize(each, side_px).astype(np.float32) / 127.5 for each in (pixels, seen))
    return float(np.mean(np.square(reconstructed - original)))


def noise_inputs(noise: jobs.Noise, noise_size: int, count: int) -> dict[str, Array]:
    """Make the noise inputs of the synthesis graph for ``count`` images.

    Returns:
        ``noise_strength`` float32[N] for the stored maps, ``noise`` float32[N, P] or, where none is drawn, [N, 1].
    """
    strength = noise.strength if noise.mode is jobs.NoiseMode.CONST else 0.0
    inputs = {"noise_strength": np.full(count, strength, np.float32), "noise": np.zeros((count, 1), np.float32)}
    if noise.mode is jobs.NoiseMode.RANDOM and noise_size:
        maps = [latents.random_noise(noise.seed + index, noise_size) for index in range(count)]
        inputs["noise"] = np.stack(maps) * np.float32(noise.strength)
    elif noise.values is not None and noise_size:
        inputs["noise"] = np.tile(noise.values * np.float32(noise.strength), (count, 1))  # [N, P]
    return inputs
