"""The models that are measured: the demo model, seeded ones of several sizes, and one that costs nothing."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from stylewire.demo import MODELS
from stylewire.manifest import Manifest, ManifestError
from stylewire_export.bundle import ExportJob, export_model
from stylewire_export.checkpoints.config import GeneratorConfig
from stylewire_export.formats import DEFAULT_FORMATS, FORMATS
from stylewire_export.networks.encoder import Encoder, EncoderConfig, MapToStyle, ResidualUnit, make_encoder
from stylewire_export.networks.generator import Generator, ToImage

BUILT = Path(__file__).parents[2] / "build" / "bench"
NARROW = ((4, 128), (8, 128), (16, 64), (32, 32), (64, 16))
"""Channels of the demo model's blocks."""


def demo() -> Path:
    """The demo model, 64 px."""
    return MODELS / "avatars"


def seeded(resolution_px: int = 256) -> Path:
    """``seeded_generator`` as a model directory."""
    return _built(f"seeded{resolution_px}", lambda: seeded_generator(resolution_px))


def seeded_narrow() -> Path:
    """``narrow_generator`` as a model directory."""
    return _built("seeded-narrow64", narrow_generator)


def seeded_psp() -> Path:
    """``full_encoder`` as a model directory, with a generator of 4 channels that takes its codes."""
    thin = replace(_config(1024), channels=tuple((2**k, 4) for k in range(2, 11)))
    return _built("seeded-psp", lambda: _seed(thin, 1024), full_encoder)


def checkpoint_of(directory: Path, part: str = "generator") -> Path:
    """The file that a seeded model's ``generator`` or ``encoder`` was exported from."""
    return directory.with_name(f"{directory.name}.{part}.pt")


def seeded_generator(resolution_px: int) -> Generator:
    """A generator of the size of NVIDIA's configurations (14.9 GMAC a picture at 256 px) with random weights."""
    return _seed(_config(resolution_px), resolution_px)


def narrow_generator() -> Generator:
    """A generator of the demo model's size with random weights."""
    widths = replace(_config(64), z_dim=128, w_dim=128, layer_dim=128, mapping_layer_count=4, channels=NARROW)
    return _seed(widths, 64)


def full_encoder() -> Encoder:
    """The encoder of pSp in its published size (267 M parameters, 72.5 GMAC a photo) with random weights."""
    torch.manual_seed(18)
    encoder = make_encoder(
        EncoderConfig(
            encoder_type="GradualStyleEncoder",
            input_channels=3,
            input_size_px=(256, 256),
            layer_count=18,
            w_dim=512,
            widths=(64, 64, 128, 256, 512),
            unit_counts=(3, 4, 14, 3),
            squeeze_widths=(4, 8, 16, 32),
        )
    ).eval()
    # PyTorch's own start fades along the depth; these scales keep signals of trained size in all layers.
    for module in encoder.modules():
        if isinstance(module, ResidualUnit):
            nn.init.constant_(module.get_parameter("res_layer.4.weight"), 0.3)
        if isinstance(module, MapToStyle):
            nn.init.normal_(module.linear.weight)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return encoder


def _config(resolution_px: int) -> GeneratorConfig:
    base = 32768 if resolution_px > 512 else 16384  # as NVIDIA's published configurations have it
    return GeneratorConfig(
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


def _seed(config: GeneratorConfig, seed: int) -> Generator:
    """Draw weights; the pictures stay within their range, as those of trained networks do."""
    torch.manual_seed(seed)
    generator = Generator(config)
    for module in generator.modules():
        if isinstance(module, ToImage):
            module.weight.data *= 0.4
    return generator


def _built(name: str, make: Callable[[], Generator], make_encoder: Callable[[], Encoder] | None = None) -> Path:
    """Export a model, unless it is there with all formats that an export writes by default."""
    directory = BUILT / name
    if not _complete(directory, "synthesis" if make_encoder is None else "encoder"):
        BUILT.mkdir(parents=True, exist_ok=True)
        print(f"building {directory}; once, and it takes a while", file=sys.stderr, flush=True)
        generator, encoders = checkpoint_of(directory), list[Path]()
        torch.save({"g_ema": make().state_dict()}, generator)
        if make_encoder is not None:
            encoders.append(checkpoint_of(directory, "encoder"))
            state = {f"encoder.{key}": tensor for key, tensor in make_encoder().state_dict().items()}
            torch.save({"state_dict": state, "opts": {"encoder_type": "GradualStyleEncoder"}}, encoders[0])
        job = ExportJob(generator=generator, encoders=tuple(encoders), name=name, out=BUILT, force=True)
        for note in export_model(job).notes:
            print(f"{name}: {note}", file=sys.stderr)
    return directory


def _complete(directory: Path, graph: str) -> bool:
    try:
        files = Manifest.read(directory).files
    except ManifestError:  # absent, or of an older version
        return False
    wanted = {f"{graph}{FORMATS[name].suffix}" for name in DEFAULT_FORMATS}
    part = "generator" if graph == "synthesis" else graph
    return wanted <= set(files) and checkpoint_of(directory, part).exists()


class _Nothing(nn.Module):
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
