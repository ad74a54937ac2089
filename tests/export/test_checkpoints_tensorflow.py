"""TensorFlow pickles written from PyTorch networks: variants that no golden file has, and contradictions."""

import pickle
import re
import sys
import types

import numpy as np
import pytest
import torch

from stylewire_export.checkpoints import read_generator
from stylewire_export.errors import CheckpointError

LAYERS = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB", "skip": "Skip"}


class Network:
    """Pickled as NVIDIA's class is: NEWOBJ, then BUILD with a dictionary."""

    def __init__(self, **state):
        self.state = {"version": 4, "build_module_src": "raise SystemExit('the source was run')"} | state

    def __getstate__(self):
        return self.state


def _variables(state):
    """The variables that TensorFlow would have for a state dict of NVIDIA's PyTorch code."""
    result = {}
    for name, tensor in state.items():
        array = tensor.numpy()
        *path, part = name.removeprefix("synthesis.").split(".")
        if part == "resample_filter":
            continue
        if name == "mapping.w_avg":
            result["dlatent_avg"] = array
        elif path[0] == "mapping":
            layer = {"embed": "LabelEmbed"}.get(path[1], path[1].replace("fc", "Dense"))
            result[f"mapping/{layer}/{part}"] = array.T
        elif part == "const":
            result["synthesis/4x4/Const/const"] = array[None]
        else:
            result |= _layer_variable(path, part, array)
    return result


def _layer_variable(path, part, array):
    resolution, layer = int(path[0][1:]), path[1]
    if part == "noise_const":
        block = resolution.bit_length() - 1
        return {f"synthesis/noise{2 * block - 5 + (layer == 'conv1')}": array[None, None]}
    scope = f"synthesis/{resolution}x{resolution}/{'Conv' if resolution == 4 and layer == 'conv1' else LAYERS[layer]}"
    if path[-1] == "affine":
        return {f"{scope}/mod_weight": array.T} if part == "weight" else {f"{scope}/mod_bias": array - np.float32(1)}
    if part == "weight":
        array = array.transpose(2, 3, 1, 0)
        return {f"{scope}/weight": array[::-1, ::-1] if layer == "conv0" else array}
    return {f"{scope}/{part}": np.float32(array) if part == "noise_strength" else array}


@pytest.fixture
def write(monkeypatch, tmp_path):
    """Writes (G, D, Gs) with the given variables and options in Gs."""
    for name in ("dnnlib", "dnnlib.tflib", "dnnlib.tflib.network"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["dnnlib.tflib.network"].Network = Network
    monkeypatch.setattr(Network, "__module__", "dnnlib.tflib.network")

    def write(variables, *, function="G_synthesis_stylegan2", count=3, protocol=4, **options):
        def own(prefix):
            return [(name.removeprefix(prefix), value) for name, value in variables.items() if name.startswith(prefix)]

        parts = {
            "mapping": Network(variables=own("mapping/"), build_func_name="G_mapping", components={}),
            "synthesis": Network(variables=own("synthesis/"), build_func_name=function, components={}),
        }
        rest = [(name, value) for name, value in variables.items() if "/" not in name]
        average = Network(variables=rest, components=parts, static_kwargs=options, build_func_name="G_main")
        (tmp_path / "network.pkl").write_bytes(pickle.dumps((None, None, average)[-count:], protocol=protocol))
        return tmp_path / "network.pkl"

    return write


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("case", ["ada32resnet", "ada32orig", "ada32gray", "ada64m2", "ada16odd"])
def test_tensorflow_form_of_a_network_is_the_same_network(golden, write, case, protocol):
    """Every architecture comes back with the tensors that it had in PyTorch, through the protocols of that time."""
    original = read_generator(golden / case / "network.pkl")
    options = {"resample_kernel": [1, 4, 2]} if case == "ada16odd" else {}

    checkpoint = read_generator(write(_variables(original.state), protocol=protocol, **options))

    assert checkpoint.family == "stylegan2"
    assert original.config.resample_filter == pytest.approx(checkpoint.config.resample_filter, abs=1e-7)
    assert original.config.channels == checkpoint.config.channels
    assert original.config.architecture == checkpoint.config.architecture
    assert original.config.use_noise == checkpoint.config.use_noise
    assert original.state.keys() == checkpoint.state.keys()
    for name, tensor in original.state.items():
        torch.testing.assert_close(checkpoint.state[name], tensor, rtol=0, atol=3e-7)


def test_options_that_change_numbers_are_read(golden, write):
    """Clamp, half precision and learning rate come from static_kwargs; what only training used is left alone."""
    variables = _variables(read_generator(golden / "ada32gray" / "network.pkl").state) | {"lod": np.float32(0)}
    path = write(variables, conv_clamp=256, num_fp16_res=4, mapping_lrmul=0.02, dlatent_avg_beta=0.995)

    config = read_generator(path).config

    assert (256, 3, 0.02) == (config.conv_clamp, config.fp16_resolution_count, config.mapping_lr_multiplier)


def test_conditional_stylegan2_concatenates_its_label(golden, write):
    """The first TensorFlow version embeds a label by a plain matrix, normalized together with z."""
    state = read_generator(golden / "ada32cond" / "network.pkl").state
    variables = _variables(state)
    del variables["mapping/LabelEmbed/bias"]
    variables["mapping/LabelConcat/weight"] = variables.pop("mapping/LabelEmbed/weight")

    checkpoint = read_generator(write(variables, label_size=5))

    assert checkpoint.config.label_concat
    assert (5, 32, 24) == (checkpoint.config.label_dim, checkpoint.config.embed_dim, checkpoint.config.z_dim)
    assert torch.equal(state["mapping.embed.weight"], checkpoint.state["mapping.embed.weight"])


def test_missing_label_bias_is_no_label_concat(golden, write):
    """A LabelEmbed without its bias is incomplete, not another kind of network."""
    variables = _variables(read_generator(golden / "ada32cond" / "network.pkl").state)
    del variables["mapping/LabelEmbed/bias"]

    with pytest.raises(CheckpointError, match=r"missing \(1\): 'mapping\.embed\.bias'"):
        read_generator(write(variables))


NOTHING = object()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("synthesis/4x4/Const/StyleMod/weight", np.zeros((2, 2), np.float32), "a StyleGAN1 generator"),
        ("synthesis/ToRGB_lod0/weight", np.zeros((1, 1, 2, 3), np.float32), "configuration B to D"),
        (
            "synthesis/8x8/Conv7/weight",
            np.zeros((3, 3, 2, 2), np.float32),
            "'synthesis/8x8/Conv7/weight' does not belong",
        ),
        (
            "synthesis/8x16/Conv1/weight",
            np.zeros((3, 3, 2, 2), np.float32),
            "'synthesis/8x16/Conv1/weight' does not belong",
        ),
        ("mapping/Dense00/weight", np.zeros((2, 2), np.float32), "two variables for the same tensor"),
        ("mapping/Dense0/weight", "text", "variable 'Dense0/weight' is no array"),
        ("mapping/Dense0/weight", np.zeros((32, 32), np.int32), "tensor 'Dense0/weight' holds int32"),
        ("mapping/Dense0/weight", np.full((32, 32), np.nan, np.float32), "'Dense0/weight' holds NaN"),
        ("mapping/Dense0/weight", np.zeros((32,), np.float32), "impossible shape|has shape"),
        ("synthesis/noise3", np.zeros((16, 16, 1, 1), np.float32), "'synthesis.b16.conv0.noise_const' has shape"),
        ("synthesis/4x4/Const/const", NOTHING, "missing"),
        ("synthesis/16x16/ToRGB/bias", NOTHING, r"missing \(1\): 'synthesis.b16.torgb.bias'"),
    ],
)
def test_wrong_variable_is_refused_by_name(golden, write, name, value, reason):
    """A variable too many, too few, of another type or of another architecture is named."""
    variables = _variables(read_generator(golden / "ada32gray" / "network.pkl").state)
    variables[name] = value
    if value is NOTHING:
        del variables[name]

    with pytest.raises(CheckpointError, match=reason):
        read_generator(write(variables))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nonlinearity": "relu"}, "the option nonlinearity is 'relu'"),
        ({"normalize_latents": False}, "the option normalize_latents is 'False'"),
        ({"conv_clamp": -1}, "the option conv_clamp is '-1', which is no positive number"),
        ({"resample_kernel": "sharp"}, "the option resample_kernel is 'sharp'"),
        ({"resample_kernel": [1, -1]}, "the option resample_kernel"),
        ({"function": "G_synthesis_stylegan_revised"}, "unknown kind 'G_synthesis_stylegan_revised'"),
        ({"count": 1}, "1 networks; the snapshots have (G, D, Gs)"),
    ],
)
def test_unsupported_options_are_refused(golden, write, changes, reason):
    """An option that would change the numbers in a way that is not supported is named."""
    variables = _variables(read_generator(golden / "ada32gray" / "network.pkl").state)

    with pytest.raises(CheckpointError, match=re.escape(reason)):
        read_generator(write(variables, **changes))
