"""The demo models that the package ships: complete, licensed, sharing one latent space, and of use."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stylewire
from stylewire.manifest import Manifest
from stylewire_export.runners import open_graph_file
from stylewire_export.verify import verify_directory

DEMO = Path(stylewire.__file__).parent / "demo"


@pytest.mark.parametrize("name", ["avatars", "pixels"])
def test_demo_model_passes_its_own_verification(name):
    """Digests and check vectors hold for the files in the package."""
    reports = verify_directory(DEMO / "models" / name)

    assert reports
    assert not any(report.problems for report in reports)


def test_demo_models_share_codes_and_carry_their_license():
    """Codes may cross between the two, and both name whom to thank."""
    avatars, pixels = (Manifest.read(DEMO / "models" / name) for name in ("avatars", "pixels"))

    assert avatars.latent_space == pixels.latent_space
    assert "CC-BY-4.0" == avatars.license == pixels.license
    assert "Johan Melin" in avatars.attribution
    assert ("encoder", "mapping", "synthesis") == avatars.graphs(".onnx")
    assert "Johan Melin" in (DEMO / "NOTICE").read_text()


def test_demo_encoder_and_generator_reconstruct_the_samples():
    """Pictures that no training saw come back recognizably: 18 dB and more on average."""
    samples = [np.asarray(Image.open(path)) for path in sorted((DEMO / "samples").glob("*.png"))]
    image = np.stack(samples).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1  # [N, 3, H, W]
    folder = DEMO / "models" / "avatars"
    encode = open_graph_file(folder / "encoder.onnx", ("image",), ("w_plus",))
    draw = open_graph_file(folder / "synthesis.onnx", ("w_plus", "noise_strength", "noise"), ("pixels", "image"))

    codes = encode({"image": image})["w_plus"]
    noise = {"noise_strength": np.ones(16, np.float32), "noise": np.zeros((16, 1), np.float32)}
    drawn = draw({"w_plus": codes} | noise)["image"]
    psnr_db = 10 * np.log10(4 / np.square(drawn.clip(-1, 1) - image).mean((1, 2, 3)))

    print(f"samples: {psnr_db.mean():.1f} dB on average, {psnr_db.min():.1f} at worst")
    assert 16 == len(samples)
    assert psnr_db.mean() > 18
