"""Comparisons of what happens before a network runs: the encoders' inputs and the alignment of faces."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from models.fidelity.report import Allowance, Meter, Row
from stylewire.latents import Array
from stylewire.manifest import EncoderInfo
from stylewire.media import codecs
from stylewire.server.front.preprocessing.alignment import align
from stylewire.server.front.preprocessing.transforms import encoder_input

KINDS = {"sketch": ("sketch", 1), "seg": ("labels", 19)}
EQUAL = Allowance(0, 0.0)
JPEG = Allowance(2, 1.0)  # for another decoder
REDUCED = Allowance(1, 0.05)  # super-resolution: the original truncates after float arithmetic
ALIGNED = Allowance(1, 0.001)  # for another Pillow or BLAS


def input_rows(folder: Path) -> Iterator[Row]:
    """Compare the bytes of encoder inputs, all files of a task together."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for entry in json.loads((folder / "index.json").read_text())["results"]:
        if "result" in entry:
            expected = np.asarray(Image.open(folder / entry["result"]))
            name = "JPEG" if entry["file"].endswith(".jpg") else entry["task"]
            found[name].append((expected, _bytes(folder / entry["file"], entry, expected)))
    meter = Meter("preprocess", "")
    for task, pairs in found.items():
        expected, got = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
        allowance = JPEG if task == "JPEG" else REDUCED if task.startswith("super_resolution") else EQUAL
        yield meter.files("input", task.replace("_resolution", ""), expected, got, allowance)


def _bytes(path: Path, entry: dict, expected: np.ndarray) -> np.ndarray:
    """Turn our float input back into the bytes that it came from."""
    kind, channels = KINDS.get(entry["task"], ("photo", 3))
    encoder = EncoderInfo(
        graph="encoder",
        task=entry["task"],
        input_kind=kind,
        input_channels=channels,
        input_height_px=expected.shape[0],
        input_width_px=expected.shape[1],
        reduction=entry.get("factor"),
    )
    image = codecs.decode(path.read_bytes(), max_bytes=10**7, max_pixels=10**7)
    values: Array = encoder_input(image, encoder)
    if kind == "labels":
        return values.argmax(0)
    unit = (values.transpose(1, 2, 0) + 1) / 2 if kind == "photo" else values[0]
    return np.rint(unit * 255).astype(np.uint8)


def alignment_rows(folder: Path) -> Iterator[Row]:
    """Compare the crops of pSp's and FFHQ's alignment."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for case in json.loads((folder / "index.json").read_text())["cases"]:
        image, landmarks = Image.open(folder / case["image"]), np.load(folder / case["landmarks"]).astype(np.float64)
        for name, variant in [("pSp", case["psp"]), *(("FFHQ", each) for each in case["ffhq"])]:
            aligned = align(
                image,
                landmarks,
                output_px=variant["output_size"],
                transform_px=variant["transform_size"],
                rotated=variant.get("rotate_level", True),
            )
            expected = np.asarray(Image.open(folder / variant["result"]).convert("RGB"))
            found[name].append((expected, np.asarray(aligned.crop(variant.get("stored_crop")))))
    for name, pairs in found.items():
        expected, got = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
        yield Meter("align", "").files("input", name, expected, got, ALIGNED)
