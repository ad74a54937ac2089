"""Write the demo models that the package ships, from trained weights.

python make_demo_models.py --base BASE --target TARGET --encoder ENCODER [--heldout heldout.rgb] [--formats onnx] OUT

BASE, TARGET and ENCODER are checkpoints of train.py and train_encoder.py (.pt) or the same weights as .safetensors.
They are first written in the file formats of published checkpoints and then exported like any others. The same weights
become the same bytes.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from demo import ENCODER, SIDE_PX, read_images
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from stylewire_export.bundle import ExportJob, export_model

SAMPLE_COUNT = 16
LICENSE = "CC-BY-4.0"
AVATARS = (
    "Trained on pictures rendered with DiceBear 9 'Toon Head', design by Johan Melin, CC BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/), recolored and re-posed at random."
)
PIXELS = f"{AVATARS} Fine-tuned on pictures rendered with DiceBear 9 'Pixel Art', design by DiceBear, CC0 1.0."


def main() -> None:
    """Write OUT/models/avatars, OUT/models/pixels and OUT/samples."""
    arguments = parse_arguments()
    samples = arguments.out / "samples"
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep_checkpoints or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        write_models(
            write_checkpoints(arguments, folder), arguments.out / "models", tuple(arguments.formats.split(","))
        )
    if arguments.heldout:
        write_samples(read_images(arguments.heldout)[:SAMPLE_COUNT], samples)
    if arguments.samples:
        write_samples(torch.stack([read_image(path) for path in sorted(arguments.samples.glob("*.png"))]), samples)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "target", "encoder"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, help="raw images; the first 16 become the samples")
    parser.add_argument("--samples", type=Path, help="folder of sample images to copy instead")
    parser.add_argument("--formats", default="onnx", help="graph formats; the package ships ONNX only, to stay small")
    parser.add_argument("--keep-checkpoints", type=Path, metavar="FOLDER", help="keep the published-format files here")
    parser.add_argument("out", type=Path)
    return parser.parse_args()


def write_checkpoints(arguments: argparse.Namespace, folder: Path) -> tuple[Path, Path, Path]:
    """Write the three networks in the formats that published ones come in."""
    base, target, encoder = folder / "avatars.pt", folder / "pixels.pt", folder / "avatars-encoder.pt"
    state = read_state(arguments.base, "ema")
    torch.save({"g_ema": state}, base)
    torch.save({"g_ema": read_state(arguments.target, "ema")}, target)
    # Half precision is enough for the encoder; the export notices and stores the weights in half the bytes.
    offsets = {name: tensor.half().float() for name, tensor in read_state(arguments.encoder, "encoder").items()}
    mean_code = state["mapping.w_avg"].repeat(ENCODER.layer_count, 1)  # [L, D]
    options = {
        "encoder_type": ENCODER.encoder_type,
        "dataset_type": "ffhq_encode",
        "input_nc": ENCODER.input_channels,
        "input_size": list(ENCODER.input_size_px),
        "output_size": SIDE_PX,
        "n_styles": ENCODER.layer_count,
        "start_from_latent_avg": True,
    }
    tensors = {f"encoder.{name}": tensor for name, tensor in offsets.items()}
    torch.save({"state_dict": tensors, "latent_avg": mean_code, "opts": options}, encoder)
    return base, target, encoder


def read_state(path: Path, key: str) -> dict[str, Tensor]:
    """Read a training checkpoint's network, or a safetensors file, without the encoder's prefix and mean code."""
    if path.suffix == ".safetensors":
        state = load_file(path)
        return {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name != "latent_avg"}
    state = torch.load(path, map_location="cpu", weights_only=True)[key]
    return {name: tensor.contiguous() for name, tensor in state.items()}


def write_models(checkpoints: tuple[Path, Path, Path], folder: Path, formats: tuple[str, ...]) -> None:
    """Export both models; their codes must be interchangeable."""
    base, target, encoder = checkpoints
    job = ExportJob(
        generator=base,
        encoders=(encoder,),
        name="avatars",
        out=folder,
        formats=formats,
        license=LICENSE,
        attribution=AVATARS,
        force=True,
    )
    avatars = export_model(job)
    pixels = export_model(replace(job, generator=target, encoders=(), name="pixels", attribution=PIXELS))
    if avatars.manifest.latent_space != pixels.manifest.latent_space:
        raise SystemExit("the target was not trained with --freeze-mapping: its codes mean other images")
    for report in (avatars, pixels):
        size = sum(info.size_bytes for info in report.manifest.files.values())
        print(f"{report.directory}: {size / 1e6:.1f} MB, latent space {report.manifest.latent_space}")


def read_image(path: Path) -> Tensor:
    """Read one image as uint8[64, 64, 3]."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB")))


def write_samples(images: Tensor, folder: Path) -> None:
    """Write images that no training saw, as inputs for inversion."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images.numpy()):
        Image.fromarray(image).save(folder / f"avatar{index:02d}.png")


if __name__ == "__main__":
    main()
