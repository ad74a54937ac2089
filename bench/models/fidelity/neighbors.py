"""Comparisons of generators that are no StyleGAN2: DCGAN, the anime-face generator, StyleGAN1."""

from collections.abc import Iterator

import numpy as np

from models.fidelity.report import Meter, Row
from stylewire.latents import Array, truncate
from support.golden import Case

MIDDLE = slice(32, 96)  # rows and columns that the golden data keep of 128 px


def plain_rows(case: Case, meter: Meter) -> Iterator[Row]:
    """Compare images of a generator without styles, by z and, where there are any, by attributes."""
    arrays = case.arrays
    values = {"z": arrays["z"]} | ({"label": arrays["tags"]} if "tags" in arrays else {})
    image = case.run("generator", values)["image"]
    if "img" in arrays:
        yield meter.values("image", "", arrays["img"], image)
    else:
        yield from _large_rows(case, meter, image, "img")


def stylegan1_rows(case: Case, meter: Meter) -> Iterator[Row]:
    """Compare w, and images with the golden data's noise, at the resolution that was exported."""
    arrays, side = case.arrays, 2 << (case.layer_count // 2)
    blocks = [4 << index for index in range(case.layer_count // 2)]
    noise = np.concatenate([arrays[f"noise_{block}"].reshape(1, -1) for block in blocks], axis=1)  # [1, P]
    codes = case.codes_of(arrays["w"])

    def draw(codes: Array) -> Array:
        image: Array = case.draw(codes, 0.0, np.repeat(noise, len(codes), axis=0))["image"]
        return image

    yield meter.values("w", "", arrays["w"], case.map(arrays["z"]))
    if side == 128:
        yield from _large_rows(case, meter, draw(codes[:1]), "img128")
        return
    yield meter.values("image", "32 px", arrays["img32"], draw(codes))
    cut = truncate(codes, arrays["mean_style"][0], 0.7)
    yield meter.values("image", "32 px, psi 0.7", arrays["img32_weight07"], draw(cut)[: len(arrays["img32_weight07"])])
    mixed = codes[:1].copy()
    mixed[:, 4:] = codes[1, 4:]  # blocks of 16 and 32 px
    yield meter.values("image", "32 px, mixed w+", arrays["img32_mix"], draw(mixed))


def _large_rows(case: Case, meter: Meter, image: Array, name: str) -> Iterator[Row]:
    yield meter.values("image", "128 px, middle", case.arrays[f"{name}_crop"], image[:, :, MIDDLE, MIDDLE])
    small = image.reshape(*image.shape[:2], 32, 4, 32, 4).mean((3, 5))
    yield meter.values("image", "128 px, reduced", case.arrays[f"{name}_down4"], small)
