"""StyleGAN1, DCGAN and the generator of anime faces against the originals: as networks and as exported files."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from stylewire_export.checkpoints import read_any_generator
from stylewire_export.exportable import make_exportable
from stylewire_export.formats.onnx import write_onnx
from stylewire_export.formats.torchscript import write_torchscript
from stylewire_export.runners import open_graph_file
from support.golden import materialize, read_case

FORMS = ("pytorch", "onnx", "torchscript")
W_LIMIT, IMAGE_LIMIT = 1e-5, 1e-5  # what a clean float32 implementation reaches, says the golden data
STYLEGAN1_LIMIT = 2e-5  # measured 9e-6: its normalization divides by deviations that can be small


@pytest.fixture(scope="module")
def scratch():
    """A folder that goes away at once: pytest would keep gigabytes of the last three runs."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def checkpoint(golden, scratch):
    """Write the checkpoint of a recipe case with the golden data's own script, once."""
    paths = {}

    def write(name):
        if name not in paths:
            paths[name] = materialize(golden / name, scratch / name)
        return paths[name]

    return write


@pytest.fixture(scope="module")
def graphs_of(checkpoint, scratch):
    """Open the graphs of a case in a form: name -> function of arrays; made once per module."""
    made = {}

    def open_graph(graph, form, name):
        if form == "pytorch":
            return graph.run
        suffix, write = (".onnx", write_onnx) if form == "onnx" else (".pt", write_torchscript)
        path = scratch / f"{name}-{graph.name}{suffix}"
        write(graph, path)
        run = open_graph_file(path, graph.inputs, graph.outputs)
        path.unlink()  # 100 MB each
        return run

    def make(name, form, *, resolution_px=None):
        key = (name, form, resolution_px)
        if key not in made:
            generator = make_exportable(read_any_generator(checkpoint(name), resolution_px=resolution_px))
            made[key] = {graph.name: open_graph(graph, form, name) for graph in generator.graphs}
        return made[key]

    return make


def reduced(image):
    """Mean of 4 x 4 pixels."""
    count, channels, height, width = image.shape
    return image.reshape(count, channels, height // 4, 4, width // 4, 4).mean((3, 5))


def crop(image):
    return image[:, :, 32:96, 32:96]


@pytest.mark.parametrize("form", FORMS)
def test_dcgan_gives_the_original_images(golden, graphs_of, measure, form):
    """The transposed convolutions and running statistics of DCGAN give the original's images."""
    arrays, _ = read_case(golden / "dcgan64_recipe")

    image = graphs_of("dcgan64_recipe", form)["generator"]({"z": arrays["z"]})["image"]

    assert measure(f"dcgan64_recipe {form} image", arrays["img"], image) <= IMAGE_LIMIT


@pytest.mark.parametrize("form", FORMS)
def test_anime_faces_give_the_original_images(golden, graphs_of, measure, form):
    """Noise and 34 attributes give the original's image, in a crop and as a whole."""
    arrays, _ = read_case(golden / "anime128_recipe")

    drawn = graphs_of("anime128_recipe", form)["generator"]({"z": arrays["z"], "label": arrays["tags"]})["image"]

    assert measure(f"anime128_recipe {form} crop", arrays["img_crop"], crop(drawn)) <= IMAGE_LIMIT
    assert measure(f"anime128_recipe {form} whole", arrays["img_down4"], reduced(drawn)) <= IMAGE_LIMIT


def given_noise(arrays, resolution_px, count):
    """The noise of a golden case in the contract's form: strength 0 and all maps, one a resolution."""
    sides = [4 << step for step in range(resolution_px.bit_length() - 2)]
    maps = np.concatenate([arrays[f"noise_{side}"].reshape(1, -1) for side in sides], axis=1)
    return {"noise_strength": np.zeros(count, np.float32), "noise": np.repeat(maps, count, 0)}


@pytest.mark.parametrize("form", FORMS)
def test_stylegan1_gives_the_original_images(golden, graphs_of, measure, form):
    """Mapping, truncation and mixing of StyleGAN1 at 32 px give the original's arrays."""
    arrays, _ = read_case(golden / "sg1_ros_recipe")
    graphs = graphs_of("sg1_ros_recipe", form, resolution_px=32)
    codes = np.repeat(arrays["w"][:, None], 8, axis=1)  # [N, L, D]
    truncated = arrays["mean_style"] + 0.7 * (codes - arrays["mean_style"])
    mixed = np.concatenate([codes[:1, :4], codes[1:, 4:]], axis=1)

    w = graphs["mapping"]({"z": arrays["z"]})["w"]
    images = [
        graphs["synthesis"]({"w_plus": rows.astype(np.float32)} | given_noise(arrays, 32, len(rows)))["image"]
        for rows in (codes, truncated, mixed)
    ]

    assert measure(f"sg1_ros_recipe {form} w", arrays["w"], w) <= W_LIMIT
    assert measure(f"sg1_ros_recipe {form} image", arrays["img32"], images[0]) <= STYLEGAN1_LIMIT
    assert measure(f"sg1_ros_recipe {form} psi", arrays["img32_weight07"], images[1]) <= STYLEGAN1_LIMIT
    assert measure(f"sg1_ros_recipe {form} mix", arrays["img32_mix"], images[2]) <= STYLEGAN1_LIMIT


@pytest.mark.parametrize("form", FORMS)
def test_stylegan1_gives_the_original_images_with_a_fused_block(golden, graphs_of, measure, form):
    """At 128 px the up-sampling convolution has another form, whose kernel is not mirrored."""
    arrays, _ = read_case(golden / "sg1_ros_recipe")
    codes = np.repeat(arrays["w"][:1, None], 12, axis=1)  # [1, L, D]

    draw = graphs_of("sg1_ros_recipe", form, resolution_px=128)["synthesis"]
    image = draw({"w_plus": codes} | given_noise(arrays, 128, 1))["image"]

    assert measure(f"sg1_ros_recipe {form} 128px", arrays["img128_crop"], crop(image)) <= STYLEGAN1_LIMIT
    assert measure(f"sg1_ros_recipe {form} 128px", arrays["img128_down4"], reduced(image)) <= STYLEGAN1_LIMIT
