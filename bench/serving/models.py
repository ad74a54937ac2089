"""The models that are served: the demo model, a seeded one of 256 px, and one that costs nothing."""

import subprocess
import sys
from pathlib import Path

import torch

from stylewire.demo import MODELS
from stylewire_export.bundle import ExportJob, export_model
from stylewire_export.checkpoints.config import GeneratorConfig
from stylewire_export.generator import Generator

BUILT = Path(__file__).parents[2] / "build" / "bench"


def demo() -> Path:
    """The demo model, 64 px."""
    return MODELS / "avatars"


def seeded_generator(resolution_px: int) -> Generator:
    """A generator of the size of NVIDIA's configurations (14.9 GMAC a picture at 256 px) with random weights."""
    base = 32768 if resolution_px > 512 else 16384  # as NVIDIA's published configurations have it
    config = GeneratorConfig(
        z_dim=512,
        w_dim=512,
        label_dim=0,
        resolution_px=resolution_px,
        image_channels=3,
        mapping_layer_count=8,
        mapping_lr_multiplier=0.01,
        architecture="skip",
        channels=tuple((2**k, min(base // 2**k, 512)) for k in range(2, resolution_px.bit_length())),
        conv_clamp=None,
        use_noise=True,
        resample_filter=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
        fp16_resolution_count=0,
        embed_dim=0,
        layer_dim=512,
    )
    torch.manual_seed(resolution_px)
    return Generator(config)


def seeded(resolution_px: int = 256) -> Path:
    """That generator as a model directory."""
    directory = BUILT / f"seeded{resolution_px}"
    if not (directory / "model.json").exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        checkpoint = BUILT / "seeded.pt"
        torch.save({"g_ema": seeded_generator(resolution_px).state_dict()}, checkpoint)
        export_model(ExportJob(generator=checkpoint, name=directory.name, out=BUILT))
        checkpoint.unlink()
    return directory


class _Nothing(torch.nn.Module):
    """z[N, 8] -> image[N, 3, 8, 8]: one product a pixel."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(z[:, None, :, None] * z[:, None, None, :].expand(-1, 3, -1, -1))


def tiny() -> Path:
    """A model that costs nothing, so that only the server is measured."""
    directory = BUILT / "tiny"
    if not (directory / "model.json").exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        graph = BUILT / "tiny.onnx"
        torch.onnx.export(
            _Nothing(),
            (torch.zeros(2, 8),),
            str(graph),
            input_names=["z"],
            output_names=["image"],
            dynamic_axes={"z": {0: "N"}, "image": {0: "N"}},
            opset_version=17,
            dynamo=False,
        )
        command = [str(Path(sys.executable).with_name("stylewire-export")), "import-onnx", str(graph), "--name", "tiny"]
        subprocess.run([*command, "--out", str(BUILT)], check=True)
    return directory
