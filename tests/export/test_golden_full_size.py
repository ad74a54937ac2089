"""Networks of published size against the originals; the checkpoints are written from their recipes first."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from stylewire_export.checkpoints import read_encoder, read_generator
from stylewire_export.formats.onnx import write_onnx
from stylewire_export.graphs import encoder_graph, mapping_graph, synthesis_graph
from stylewire_export.networks.loading import load_encoder, load_generator
from stylewire_export.runners import open_graph_file
from support.golden import crops, materialize, read_case

LIMIT = 1e-5  # of the largest magnitude


@pytest.fixture
def scratch():
    """A folder that goes away at once: pytest would keep gigabytes of the last three runs."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def open_onnx(graph, folder):
    path = folder / f"{graph.name}.onnx"
    write_onnx(graph, path)
    return open_graph_file(path, graph.inputs, graph.outputs)


@pytest.mark.parametrize(
    "name", ["ros64_full_recipe", "ada256_full_recipe", pytest.param("ada1024_full_recipe", marks=pytest.mark.slow)]
)
def test_full_size_generator_gives_the_original_images(golden, measure, scratch, name):
    """A generator of published width, exported to ONNX, gives the original's w and images."""
    generator = load_generator(read_generator(materialize(golden / name, scratch / "network")))
    arrays, meta = read_case(golden / name)
    codes = np.repeat(arrays["w"][:1, None], generator.synthesis.layer_count, 1)
    draw = open_onnx(synthesis_graph(generator), scratch)
    noise = {"noise_strength": np.ones(1, np.float32), "noise": np.zeros((1, 1), np.float32)}
    corners = meta.get("crop_top_left", [[0, 0]])

    w = open_onnx(mapping_graph(generator), scratch)({"z": arrays["z"]})["w"]
    image = crops(draw({"w_plus": codes} | noise)["image"], corners)
    mixed = crops(draw({"w_plus": arrays["wplus"]} | noise)["image"], corners[-2:])

    assert measure(f"{name} onnx w", arrays["w"], w) <= LIMIT
    suffix = "crops" if "img_const_crops" in arrays else "first"
    assert measure(f"{name} onnx const", arrays[f"img_const_{suffix}"].reshape(image.shape), image) <= LIMIT
    assert measure(f"{name} onnx w+", arrays[f"img_wplus_const_{suffix}"].reshape(mixed.shape), mixed) <= LIMIT


@pytest.mark.slow
def test_full_size_encoder_gives_the_original_codes(golden, measure, scratch):
    """A pSp encoder of published width, exported to ONNX, gives the original's codes."""
    checkpoint = read_encoder(materialize(golden / "psp64_full_recipe", scratch / "network"))
    arrays, _ = read_case(golden / "psp64_full_recipe")
    graph = encoder_graph("encoder", load_encoder(checkpoint), checkpoint.latent_avg)

    codes = open_onnx(graph, scratch)({"image": arrays["input"]})["w_plus"]

    assert measure("psp64_full_recipe onnx codes", arrays["latents"], codes) <= LIMIT
