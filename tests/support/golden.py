"""Golden cases: what the originals computed, and one way to ask any form of a network for the same."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Run = Callable[[str, dict], dict]
"""Graph name and inputs by name -> outputs by name."""


@dataclass(frozen=True)
class Case:
    """One golden case in one form: its stored arrays and functions that compute them anew."""

    name: str
    folder: Path
    meta: dict
    arrays: dict[str, np.ndarray]
    layer_count: int
    noise_size: int
    run: Run

    def map(self, z, label=None):
        return self.run("mapping", {"z": z} if label is None else {"z": z, "label": label})["w"]

    def draw(self, codes, strength=1.0, noise=None):
        """Pixels and image of codes with the stored noise times ``strength``, plus ``noise`` float32[N, P']."""
        values = {"w_plus": np.ascontiguousarray(codes, np.float32)}
        if self.noise_size:
            count = len(codes)
            values |= {
                "noise_strength": np.full(count, strength, np.float32),
                "noise": np.zeros((count, 1), np.float32) if noise is None else noise,
            }
        return self.run("synthesis", values)

    def codes_of(self, w):
        return np.repeat(w[:, None], self.layer_count, axis=1)  # [N, L, D]


def read_case(folder: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Read the arrays of a case and its description."""
    with np.load(folder / "io.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads((folder / "meta.json").read_text())


def materialize(folder: Path, path: Path) -> Path:
    """Write the checkpoint of a recipe case, with the golden data's own script; gives the path with its suffix."""
    script = "materialize_encoders.py" if folder.name.startswith(("psp", "e4e")) else "materialize.py"
    command = [sys.executable, folder.parent / script, folder, path]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return path.parent / printed.strip().splitlines()[-1]


def crops(image: np.ndarray, corners) -> np.ndarray:
    """Cut 64 x 64 pixels out of [N, C, R, R] at every corner (top, left): [crops * N, C, 64, 64]."""
    return np.concatenate([image[:, :, top : top + 64, left : left + 64] for top, left in corners])
