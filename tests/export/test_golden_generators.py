"""Generators against the originals: as PyTorch networks, as ONNX and as TorchScript files."""

import numpy as np
import pytest
from PIL import Image

from stylewire.latents import broadcast, mix, sample_z, truncate
from stylewire_export.verify import pixel_error

CASES = (
    "ada64",
    "ada64m2",
    "ada32cond",
    "ada32resnet",
    "ada32orig",
    "ada32gray",
    "ada32rgba",
    "ada32clamp",
    "ada32fp16",
    "ada16odd",
    "sg3_32",
    "sg3_32cond",
    "ros64_narrow",
    "ros32",
    "ros32_legacy_container",
    "blend64",
    "tf2_32",
    "tfada_32cond",
)
FORMS = ("pytorch", "onnx", "torchscript", "ncnn")
W_LIMIT, IMAGE_LIMIT = 1e-5, 1e-5  # what a clean float32 implementation reaches, says the golden data


@pytest.mark.parametrize("form", FORMS[:3])
@pytest.mark.parametrize("name", CASES)
def test_mapping_gives_the_original_w(case, measure, name, form):
    """Seeds and labels map to the original's w, and the stored mean is the center of truncation."""
    golden = case(name, form)
    seeds, z = golden.meta["seeds"], golden.arrays["z"]

    w = golden.map(z, golden.arrays.get("c"))

    assert np.array_equal(z, np.stack([sample_z(seed, golden.meta["z_dim"]) for seed in seeds]))
    assert measure(f"{name} {form} w", golden.arrays["w"], w) <= W_LIMIT


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_synthesis_gives_the_original_images(case, measure, name, form):
    """Codes give the original's images: stored noise, no noise, and codes with mixed rows."""
    golden = case(name, form)
    arrays = golden.arrays
    codes = golden.codes_of(arrays["w"])

    const, none, mixed = golden.draw(codes), golden.draw(codes, 0.0), golden.draw(arrays["wplus"])

    assert measure(f"{name} {form} const", arrays["img_const"], const["image"]) <= IMAGE_LIMIT
    assert measure(f"{name} {form} none", arrays["img_none"], none["image"]) <= IMAGE_LIMIT
    assert measure(f"{name} {form} w+", arrays["img_wplus_const"], mixed["image"]) <= IMAGE_LIMIT
    expected = {"image": arrays["img_const"], "pixels": arrays["img_const_u8"]}
    assert pixel_error(expected, const, "round") <= 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["ada64", "ada16odd", "ros64_narrow"])
def test_synthesis_does_not_depend_on_the_batch(case, measure, name, form):
    """An item alone gives the image that it gives in a batch of five."""
    golden = case(name, form)
    codes = golden.codes_of(golden.arrays["w"])[[0, 1, 2, 1, 0]]

    together = golden.draw(codes)["image"]
    alone = np.concatenate([golden.draw(codes[k : k + 1])["image"] for k in range(5)])

    assert measure(f"{name} {form} batch", together, alone) <= 1e-5


@pytest.mark.parametrize("name", [name for name in CASES if name != "ros32"])
def test_truncation_uses_the_stored_mean(case, measure, name):
    """The exported mean of w truncates as the original does, on all rows and on the first four."""
    golden = case(name)
    mean = golden.generator.mapping.w_avg.numpy()
    codes = broadcast(golden.arrays["w"], golden.generator.synthesis.layer_count)

    assert np.array_equal(golden.arrays["w_avg"], mean)
    assert measure(f"{name} psi", golden.arrays["w_psi07"], truncate(codes, mean, 0.7)) <= 1e-6
    assert measure(f"{name} psi", golden.arrays["w_psi05_cut4"], truncate(codes, mean, 0.5, slice(4))) <= 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_mapping_normalizes_with_the_original_epsilon(case, measure, form):
    """A z of tiny length shows the 1e-8 inside the normalization."""
    golden = case("ada64", form)

    assert measure(f"ada64 {form} w_small", golden.arrays["w_small"], golden.map(golden.arrays["z_small"])) <= 1e-5


def assert_same_picture(path, pixels):
    """Levels differ by one at most, in at most 2e-4 of the values (the golden data's tolerance)."""
    with Image.open(path) as picture:
        difference = np.abs(np.asarray(picture).astype(int) - pixels)

    assert difference.max() <= 1
    assert (difference > 0).mean() <= 2e-4


@pytest.mark.parametrize("form", FORMS)
def test_seeds_give_the_pictures_of_generate_py(case, form):
    """``generate.py --seeds`` and ``--trunc=0.7 --noise-mode=none`` wrote these very pictures."""
    golden = case("ada64", form)
    for seed in range(4):
        codes = golden.codes_of(golden.map(sample_z(seed, 64)[None]))
        assert_same_picture(golden.folder / f"generate_py/seed{seed:04d}.png", golden.draw(codes)["pixels"][0])
    w = truncate(golden.map(sample_z(5, 64)[None]), golden.arrays["w_avg"], 0.7)
    pixels = golden.draw(golden.codes_of(w), 0.0)["pixels"][0]

    assert_same_picture(golden.folder / "generate_py_trunc07_none/seed0005.png", pixels)


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_codes_give_the_pictures_of_style_mixing_py(case, form):
    """``style_mixing.py --rows=0,1 --cols=2,3 --styles=0-3 --trunc=0.8`` wrote these very pictures."""
    golden = case("ada64", form)
    z = np.stack([sample_z(seed, 64) for seed in range(4)])
    codes = truncate(golden.codes_of(golden.map(z)), golden.arrays["w_avg"], 0.8)
    for row in (0, 1):
        assert_same_picture(golden.folder / f"style_mixing_py/{row}-{row}.png", golden.draw(codes)["pixels"][row])
        for column in (2, 3):
            mixed = mix(codes[row], codes[column], slice(0, 4))
            path = golden.folder / f"style_mixing_py/{row}-{column}.png"
            assert_same_picture(path, golden.draw(mixed[None])["pixels"][0])


@pytest.mark.parametrize("form", FORMS)
def test_projected_w_gives_the_picture_of_generate_py(case, form):
    """``generate.py --projected-w`` wrote this very picture."""
    golden = case("ada64", form)
    with np.load(golden.folder / "projected_w.npz") as file:
        pixels = golden.draw(file["w"])["pixels"][0]

    assert_same_picture(golden.folder / "generate_py_projected_w/proj00.png", pixels)


def test_layers_give_the_original_activations(case, measure):
    """Every convolution's activations are the original's: a slip in one layer is named by that layer."""
    golden = case("ada64")
    with np.load(golden.folder / "layers.npz") as file:
        stored = {key: file[key] for key in file.files}
    captured = {}

    def capture(name):
        return lambda _module, _inputs, output: captured.update({name: output.numpy()})

    modules = dict(golden.generator.synthesis.named_modules())
    names = [key.removesuffix(".out") for key in stored if key.endswith(".out")]
    hooks = [modules[name].register_forward_hook(capture(name)) for name in names]
    golden.draw(golden.codes_of(golden.arrays["w"][:1]))
    for hook in hooks:
        hook.remove()

    assert names
    for name in names:
        assert measure("ada64 layers", stored[f"{name}.out"], captured[name]) <= 1e-5, name
