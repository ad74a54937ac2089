"""The recipe of the demo models runs from pictures to model directories."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stylewire.manifest import Manifest

RECIPE = Path(__file__).parents[2] / "export" / "recipe"


@pytest.mark.slow
def test_recipe_makes_model_directories_from_pictures(tmp_path):
    """A second of training of every network ends in two verified models that share a latent space."""
    pictures = np.random.RandomState(0).randint(0, 256, (64, 64, 64, 3), dtype=np.uint8)
    pictures.tofile(tmp_path / "pictures.rgb")
    data = ["--data", tmp_path / "pictures.rgb", "--minutes", "0.01", "--batch", "4"]

    def run(script, *arguments):
        subprocess.run([sys.executable, RECIPE / script, *map(str, arguments)], check=True, capture_output=True)

    base, target, encoder = tmp_path / "base", tmp_path / "target", tmp_path / "encoder"
    run("train.py", *data, "--out", base)
    run("train.py", *data, "--out", target, "--init", base / "ckpt.pt", "--freeze-mapping", "--augment")
    run("train_encoder.py", *data, "--test", data[1], "--generator", base / "ckpt.pt", "--out", encoder)
    networks = ["--base", base / "ckpt.pt", "--target", target / "ckpt.pt", "--encoder", encoder / "ckpt.pt"]
    run("make_demo_models.py", *networks, "--heldout", data[1], tmp_path / "out")

    avatars, pixels = (Manifest.read(tmp_path / "out" / "models" / name) for name in ("avatars", "pixels"))
    assert avatars.latent_space == pixels.latent_space
    assert avatars.files["synthesis.onnx"] != pixels.files["synthesis.onnx"]
    assert 16 == len(list((tmp_path / "out" / "samples").glob("*.png")))
