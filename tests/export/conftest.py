"""Golden cases as networks and as exported graph files; a table of the measured differences at the end of the run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from stylewire_export.bundle import ExportJob, export_model
from stylewire_export.checkpoints import GeneratorConfig, read_encoder, read_generator
from stylewire_export.checkpoints.config import DcganConfig
from stylewire_export.formats import FORMATS
from stylewire_export.graphs import Graph, encoder_graph, mapping_graph, synthesis_graph
from stylewire_export.networks.dcgan import Dcgan
from stylewire_export.networks.encoder import EncoderConfig, make_encoder
from stylewire_export.networks.generator import Generator
from stylewire_export.networks.loading import load_encoder, load_generator
from stylewire_export.runners import open_graph_file
from support.golden import Case, read_case

TINY_GENERATOR = GeneratorConfig(
    z_dim=8,
    w_dim=8,
    label_dim=0,
    embed_dim=0,
    layer_dim=8,
    mapping_layer_count=2,
    resolution_px=32,
    image_channels=3,
    architecture="skip",
    channels=((4, 8), (8, 8), (16, 6), (32, 4)),
    use_noise=True,
    resample_filter=(0.125, 0.375, 0.375, 0.125),
)
TINY_ENCODER = EncoderConfig(
    encoder_type="GradualStyleEncoder",
    input_channels=3,
    input_size_px=(32, 32),
    layer_count=8,
    w_dim=8,
    widths=(4, 4, 6, 7, 8),
    unit_counts=(1, 2, 1, 1),
    squeeze_widths=(1, 1, 2, 2),
    head_depths=(1, 2, 3),
)


@dataclass(frozen=True)
class NetworkCase(Case):
    """A golden case with the PyTorch network behind it."""

    generator: Generator


def _load_graphs(checkpoint_path: Path) -> tuple[Generator, list[Graph]]:
    generator = load_generator(read_generator(checkpoint_path))
    graphs = [mapping_graph(generator), synthesis_graph(generator)]
    if checkpoint_path.name == "model.pt" and not checkpoint_path.parent.name.startswith("ros"):
        checkpoint = read_encoder(checkpoint_path)
        mean_code = checkpoint.latent_avg
        if mean_code is None:
            mean_code = generator.mapping.w_avg.new_zeros(checkpoint.layer_count, checkpoint.w_dim)
        graphs.append(encoder_graph("encoder", load_encoder(checkpoint), mean_code))
    return generator, graphs


@pytest.fixture(scope="session")
def case(golden, tmp_path_factory) -> Callable[[str, str], NetworkCase]:
    """Give a golden case in a form; networks and files are made once per session."""
    networks: dict[str, tuple[Generator, list[Graph]]] = {}
    runs: dict[tuple[str, str], dict] = {}
    out = tmp_path_factory.mktemp("graphs")

    def open_form(name: str, form: str):
        graphs = networks[name][1]
        if form == "pytorch":
            return {graph.name: graph.run for graph in graphs}
        opened = {}
        for graph in graphs:
            file_format = FORMATS["onnx" if graph.name == "mapping" else form]  # ncnn has no mapping networks
            path = out / f"{name}-{graph.name}{file_format.suffix}"
            file_format.write(graph, path)
            opened[graph.name] = open_graph_file(path, graph.inputs, graph.outputs)
        return opened

    def make(name: str, form: str = "pytorch") -> NetworkCase:
        arrays, meta = read_case(golden / name)
        if name not in networks:
            networks[name] = _load_graphs(golden / name / meta["checkpoint"])
        if (name, form) not in runs:
            runs[name, form] = open_form(name, form)
        functions, generator = runs[name, form], networks[name][0]
        return NetworkCase(
            name=name,
            folder=golden / name,
            meta=meta,
            arrays=arrays,
            layer_count=generator.synthesis.layer_count,
            noise_size=generator.synthesis.noise_size,
            run=lambda graph, values: functions[graph](values),
            generator=generator,
        )

    return make


@pytest.fixture(scope="session")
def tiny_generator() -> Generator:
    """A small trained-looking generator: nothing about it is zero or one."""
    torch.manual_seed(0)
    generator = Generator(TINY_GENERATOR)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.3)
        generator.mapping.w_avg.normal_()
    return generator.eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="session")
def tiny_encoder():
    """A small encoder whose running statistics are not those of a fresh network."""
    torch.manual_seed(1)
    encoder = make_encoder(TINY_ENCODER).train()
    for _ in range(3):
        encoder(torch.randn(4, 3, 32, 32))
    return encoder.eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory, tiny_generator, tiny_encoder) -> tuple[Path, Path]:
    """The two networks as checkpoint files: a generator's state dict and a pSp encoder."""
    folder = tmp_path_factory.mktemp("tiny")
    generator_path, encoder_path = folder / "generator.pt", folder / "encoder.pt"
    torch.save({"g_ema": tiny_generator.state_dict()}, generator_path)
    state = {f"encoder.{name}": tensor for name, tensor in tiny_encoder.state_dict().items()}
    options = {
        "encoder_type": "GradualStyleEncoder",
        "input_size": [32, 32],
        "output_size": 32,
        "start_from_latent_avg": True,
    }
    mean_code = tiny_generator.mapping.w_avg.repeat(8, 1)
    torch.save({"state_dict": state, "latent_avg": mean_code, "opts": options}, encoder_path)
    return generator_path, encoder_path


@pytest.fixture
def measure(record_property):
    """Measure, print and note the largest difference, relative to the largest magnitude of the reference."""

    def relative_error(what: str, expected, got) -> float:
        assert expected.shape == got.shape
        error = float(np.abs(got.astype(np.float64) - expected).max() / np.abs(expected).max())
        print(f"{what}: {error:.1e}")
        record_property("parity", (what, error))
        return error

    return relative_error


@pytest.fixture(scope="session")
def dcgan_model(tmp_path_factory) -> Path:
    """A generator without styles of 8 px, from a z of 4 and a label of 2, as ONNX."""
    out = tmp_path_factory.mktemp("dcgan")
    config = DcganConfig(input_dim=6, widths=(4, 3), biased=(False, False))
    torch.manual_seed(1)
    torch.save(Dcgan(config).eval().state_dict(), out / "network.pt")
    job = ExportJob(generator=out / "network.pt", name="dcgan", out=out / "models", z_dim=4, formats=("onnx",))
    return export_model(job).directory
