"""Readers of checkpoints against files that the original projects wrote."""

import importlib.util
import json
import math
import shutil

import numpy as np
import pytest
import torch

from stylewire_export.checkpoints import read_encoder, read_generator
from stylewire_export.errors import CheckpointError

NVIDIA_CASES = [
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
]
TENSORFLOW_CASES = ["tf2_32", "tfada_32cond"]
ROSINALITY_CASES = ["ros64_narrow", "ros32", "ros32_legacy_container"]
ENCODER_CASES = [
    "psp_narrow64",
    "psp_seg_narrow32",
    "psp_sketch_narrow32",
    "psp_w_narrow32",
    "psp_learn_in_w",
    "psp_wplus_narrow32",
    "e4e_narrow32",
    "e4e_single_style32",
]
FAMILIES = {"pSp": "pixel2style2pixel", "e4e": "encoder4editing"}
TASKS = {"rgb": ("encode", "photo"), "seg": ("seg", "labels"), "sketch": ("sketch", "sketch")}


@pytest.fixture(scope="session")
def recipe(golden):
    """The rule by which the golden weights were drawn."""
    spec = importlib.util.spec_from_file_location("golden_recipe", golden / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _meta(golden, case):
    return json.loads((golden / case / "meta.json").read_text())


def _original(path):
    """The same file through torch; safe here because the file is ours."""
    return torch.load(path, map_location="cpu", weights_only=False)


@pytest.mark.parametrize("case", NVIDIA_CASES)
def test_nvidia_config_equals_the_constructor_arguments(golden, case):
    """Dimensions from the tensors are those that the original network was built with, with its flavor's defaults."""
    meta = _meta(golden, case)
    of_stylegan3 = case.startswith("sg3")
    arguments = {"conv_clamp": 256, "num_fp16_res": 4} if of_stylegan3 else {}
    arguments |= {"architecture": "skip", "use_noise": True, "resample_filter": [1, 3, 3, 1]} | meta["synthesis_kwargs"]
    base, limit = arguments["channel_base"], arguments["channel_max"]
    resolutions = [2**power for power in range(2, int(math.log2(meta["resolution"])) + 1)]
    taps = np.array(arguments["resample_filter"]) / sum(arguments["resample_filter"])

    checkpoint = read_generator(golden / case / "network.pkl")
    config = checkpoint.config

    assert ("stylegan3-repository" if of_stylegan3 else "stylegan2-ada-pytorch") == checkpoint.family
    assert meta["z_dim"] == config.z_dim
    assert meta["w_dim"] == config.w_dim
    assert meta["label_dim"] == config.label_dim
    assert (meta["w_dim"] if meta["label_dim"] else 0) == config.embed_dim
    assert meta["resolution"] == config.resolution_px
    assert meta["img_channels"] == config.image_channels
    assert meta["mapping_kwargs"].get("num_layers", 8) == config.mapping_layer_count
    assert meta["mapping_kwargs"].get("layer_features", meta["w_dim"]) == config.layer_dim
    assert config.mapping_lr_multiplier == 0.01
    assert arguments["architecture"] == config.architecture
    assert arguments["use_noise"] == config.use_noise
    assert tuple((r, min(base // r, limit)) for r in resolutions) == config.channels
    assert arguments.get("conv_clamp") == config.conv_clamp
    assert min(arguments.get("num_fp16_res", 0), len(resolutions) - 1) == config.fp16_resolution_count
    assert taps == pytest.approx(config.resample_filter, abs=1e-7)
    assert config.pixel_rule == "round"
    assert checkpoint.has_w_avg


@pytest.mark.parametrize("case", NVIDIA_CASES)
def test_nvidia_tensors_equal_the_recipe(golden, recipe, case):
    """Every weight of G_ema (not of G; channels-last ones in their order) is bit for bit the one that was stored."""
    meta = _meta(golden, case)

    checkpoint = read_generator(golden / case / "network.pkl")

    for name, tensor in checkpoint.state.items():
        if not name.endswith("resample_filter"):
            rule = recipe.rule_for(name, meta["weight_options"])
            expected = recipe.tensor(name, tensor.shape, meta["weight_seed"], rule)
            np.testing.assert_array_equal(expected, tensor.numpy(), name)
        assert torch.float32 == tensor.dtype
        assert tensor.is_contiguous()


@pytest.mark.parametrize("case", TENSORFLOW_CASES)
def test_tensorflow_config_equals_the_options(golden, case):
    """Dimensions from the variables, clamp and fp16 from static_kwargs, are those of the original network."""
    meta = _meta(golden, case)
    options = meta["static_kwargs"]

    checkpoint = read_generator(golden / case / "network.pkl")
    config = checkpoint.config

    assert {4: "stylegan2", 5: "stylegan2-ada"}[meta["network_version"]] == checkpoint.family
    assert (meta["z_dim"], meta["w_dim"], meta["label_dim"]) == (config.z_dim, config.w_dim, config.label_dim)
    assert (meta["resolution"], meta["img_channels"]) == (config.resolution_px, config.image_channels)
    assert options.get("mapping_layers", 8) == config.mapping_layer_count
    assert options.get("conv_clamp") == config.conv_clamp
    assert min(options.get("num_fp16_res", 0), len(config.channels) - 1) == config.fp16_resolution_count
    assert (
        tuple((r, min(2 * options["fmap_base"] // r, options["fmap_max"])) for r in (4, 8, 16, 32)) == config.channels
    )
    assert not config.label_concat
    assert checkpoint.has_w_avg


@pytest.mark.parametrize("case", TENSORFLOW_CASES)
def test_tensorflow_tensors_equal_the_recipe(golden, recipe, case):
    """Transposed, flipped and shifted, the variables of Gs are the weights that the official converter was given."""
    meta = _meta(golden, case)

    checkpoint = read_generator(golden / case / "network.pkl")

    for name, tensor in checkpoint.state.items():
        if not name.endswith("resample_filter"):
            expected = recipe.tensor(
                name, tensor.shape, meta["weight_seed"], recipe.rule_for(name, meta["weight_options"])
            )
            np.testing.assert_allclose(expected, tensor.numpy(), rtol=0, atol=3e-7, err_msg=name)
        assert tensor.is_contiguous()


@pytest.mark.parametrize("case", ROSINALITY_CASES)
def test_rosinality_config_equals_the_original(golden, case):
    """Size, widths and mapping layers of the port follow from its tensors, in both containers."""
    meta = _meta(golden, case)

    checkpoint = read_generator(golden / case / "model.pt")
    config = checkpoint.config

    assert checkpoint.family == "rosinality"
    assert (meta["style_dim"],) * 3 == (config.z_dim, config.w_dim, config.layer_dim)
    assert meta["size"] == config.resolution_px
    assert meta["n_mlp"] == config.mapping_layer_count
    assert meta["latent_avg"] == checkpoint.has_w_avg
    for resolution, channels in config.channels:
        expected = meta["channels"][str(resolution)]
        assert (expected if isinstance(expected, int) else 12) == channels
    assert (3, "skip", None, True) == (config.image_channels, config.architecture, config.conv_clamp, config.use_noise)
    assert config.resample_filter == (0.125, 0.375, 0.375, 0.125)


@pytest.mark.parametrize("case", ROSINALITY_CASES)
def test_rosinality_tensors_keep_their_values(golden, case):
    """Renaming moves every number to its place: the running average, no flip, no scale, only axes of size 1 dropped."""
    original = _original(golden / case / "model.pt")
    average = original["g_ema"]

    state = read_generator(golden / case / "model.pt").state

    pairs = {
        "mapping.fc0.weight": "style.1.weight",
        "mapping.fc3.bias": "style.4.bias",
        "synthesis.b4.const": "input.input",
        "synthesis.b4.conv1.weight": "conv1.conv.weight",
        "synthesis.b4.conv1.noise_const": "noises.noise_0",
        "synthesis.b4.torgb.bias": "to_rgb1.bias",
        "synthesis.b8.conv0.weight": "convs.0.conv.weight",
        "synthesis.b8.conv1.affine.bias": "convs.1.conv.modulation.bias",
        "synthesis.b8.torgb.affine.weight": "to_rgbs.0.conv.modulation.weight",
        "synthesis.b16.conv0.noise_strength": "convs.2.noise.weight",
        "synthesis.b16.conv1.bias": "convs.3.activate.bias",
        "synthesis.b16.conv0.noise_const": "noises.noise_3",
        "synthesis.b32.conv1.noise_const": "noises.noise_6",
        "synthesis.b32.torgb.weight": "to_rgbs.2.conv.weight",
    }
    for name, original_name in pairs.items():
        np.testing.assert_array_equal(average[original_name].numpy().squeeze(), state[name].numpy().squeeze(), name)
    if "latent_avg" in original:
        np.testing.assert_array_equal(original["latent_avg"].numpy(), state["mapping.w_avg"].numpy())


@pytest.mark.parametrize("case", ENCODER_CASES)
def test_encoder_config_equals_the_original(golden, case):
    """Type, task, sizes and latent_avg of pSp's and e4e's encoders are those of the training options."""
    meta = _meta(golden, case)
    task, input_kind = TASKS[meta["task"]]

    encoder = read_encoder(golden / case / "model.pt")

    assert FAMILIES[meta["family"]] == encoder.family
    assert meta["encoder_type"] == encoder.encoder_type
    assert (task, input_kind) == (encoder.task, encoder.input_kind)
    assert meta["input_nc"] == encoder.input_channels
    assert tuple(meta["input_size"]) == encoder.input_size_px
    assert meta["n_styles"] == encoder.layer_count
    assert meta["style_dim"] == encoder.w_dim
    assert bool(meta["learn_in_w"]) == encoder.learn_in_w
    assert encoder.notes == ()


@pytest.mark.parametrize("case", ENCODER_CASES)
def test_encoder_tensors_keep_their_values(golden, case):
    """All tensors of the encoder come without their prefix, unchanged, and latent_avg as one row for every layer."""
    original = _original(golden / case / "model.pt")

    encoder = read_encoder(golden / case / "model.pt")

    expected = {
        name.removeprefix("encoder."): tensor
        for name, tensor in original["state_dict"].items()
        if name.startswith("encoder.") and not name.endswith("num_batches_tracked")
    }
    assert expected.keys() == encoder.state.keys()
    assert all(torch.equal(tensor, encoder.state[name]) for name, tensor in expected.items())
    if "latent_avg" in original:
        rows = original["latent_avg"].expand(encoder.layer_count, encoder.w_dim)
        assert torch.equal(rows, encoder.latent_avg)
        assert encoder.latent_avg.is_contiguous()
    else:
        assert encoder.latent_avg is None


@pytest.mark.parametrize("case", ENCODER_CASES)
def test_decoder_is_the_generator_of_an_encoder_file(golden, case):
    """The decoder inside reads as a generator that truncates its pixels; w_avg only where latent_avg is one w."""
    meta = _meta(golden, case)

    checkpoint = read_generator(golden / case / "model.pt")
    config = checkpoint.config

    assert f"{FAMILIES[meta['family']]}-decoder" == checkpoint.family
    assert config.pixel_rule == "truncate"
    assert meta["output_size"] == config.resolution_px
    assert {int(r): c for r, c in meta["decoder_channels"].items()} == dict(config.channels)
    shape = meta["latent_avg_shape"]
    assert (shape is not None and (len(shape) == 1 or shape[0] == 1)) == checkpoint.has_w_avg


def test_file_is_told_by_content_not_by_suffix(golden, tmp_path):
    """An NVIDIA pickle named .pt and a torch file named .pkl are read all the same."""
    nvidia = shutil.copy(golden / "ada32gray" / "network.pkl", tmp_path / "gray.pt")
    torch_file = shutil.copy(golden / "ros32" / "model.pt", tmp_path / "ros.pkl")

    families = [read_generator(path).family for path in (nvidia, torch_file)]

    assert families == ["stylegan2-ada-pytorch", "rosinality"]


@pytest.mark.parametrize(
    ("case", "file", "reason"),
    [
        ("refuse_stylegan3", "network.pkl", "a StyleGAN3 generator"),
        ("e4e_narrow32", "latents.pt", r"one tensor of shape \[2, 8, 12\] \(a file of codes\?\)"),
    ],
)
def test_other_kinds_are_refused_by_name(golden, case, file, reason):
    """A well-formed file of a kind that is not supported is called by its name."""
    with pytest.raises(CheckpointError, match=reason):
        read_generator(golden / case / file)


def test_generator_file_has_no_encoder(golden):
    """Asking a generator's file for an encoder says what the file is."""
    with pytest.raises(CheckpointError, match=r"a generator \(stylegan2-ada-pytorch\) without an encoder"):
        read_encoder(golden / "ada64" / "network.pkl")
