"""Legitimate variants of checkpoint files, and files whose parts contradict one another."""

import argparse
import pickle
import re
import sys
import types

import numpy as np
import pytest
import torch

from stylewire_export.checkpoints import read_encoder, read_generator
from stylewire_export.checkpoints.encoder_layout import COARSE_STYLES, MIDDLE_STYLES
from stylewire_export.errors import CheckpointError


def _loaded(path):
    return torch.load(path, map_location="cpu", weights_only=False)


@pytest.fixture
def rosinality(golden):
    """A converted file of the port: {g_ema, latent_avg}."""
    return _loaded(golden / "ros64_narrow" / "model.pt")


@pytest.fixture
def psp(golden):
    """A pSp file of GradualStyleEncoder for 64 px."""
    return _loaded(golden / "psp_narrow64" / "model.pt")


@pytest.fixture
def saved(tmp_path):
    """Writes an object as the given container and gives the path."""

    def save(content, *, zipped=True):
        torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
        return tmp_path / "model.pt"

    return save


def _demo_encoder(input_px=64, style_count=10):
    """A state dict like the demo's: units (2, 2, 3, 2), other widths at every stage, heads for 64 px."""
    random = torch.Generator().manual_seed(0)
    state = {}

    def add(name, *shape):
        state[f"encoder.{name}"] = torch.rand(shape, generator=random)

    def norm(name, width):
        for part in ("weight", "bias", "running_mean", "running_var"):
            add(f"{name}.{part}", width)

    add("input_layer.0.weight", 6, 3, 3, 3)
    norm("input_layer.1", 6)
    add("input_layer.2.weight", 6)
    width, unit = 6, 0
    for out, count in zip((6, 8, 10, 12), (2, 2, 3, 2), strict=True):
        for _ in range(count):
            layer = f"body.{unit}.res_layer"
            norm(f"{layer}.0", width)
            add(f"{layer}.1.weight", out, width, 3, 3)
            add(f"{layer}.2.weight", out)
            add(f"{layer}.3.weight", out, out, 3, 3)
            norm(f"{layer}.4", out)
            add(f"{layer}.5.fc1.weight", 2, out, 1, 1)
            add(f"{layer}.5.fc2.weight", out, 2, 1, 1)
            if width != out:
                add(f"body.{unit}.shortcut_layer.0.weight", out, width, 1, 1)
                norm(f"body.{unit}.shortcut_layer.1", out)
            width, unit = out, unit + 1
    for style in range(style_count):
        depth = int(np.log2(input_px / 16)) + (style >= COARSE_STYLES) + (style >= MIDDLE_STYLES)
        for index in range(0, 2 * depth, 2):
            add(f"styles.{style}.convs.{index}.weight", 12, 12, 3, 3)
            add(f"styles.{style}.convs.{index}.bias", 12)
        add(f"styles.{style}.linear.weight", 12, 12)
        add(f"styles.{style}.linear.bias", 12)
    for name, in_width in (("latlayer1", 10), ("latlayer2", 8)):
        add(f"{name}.weight", 12, in_width, 1, 1)
        add(f"{name}.bias", 12)
    return state


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_torch_file_of_any_protocol_is_read(rosinality, tmp_path, protocol):
    """Protocols 2 to 5 of the pickle inside give the same network."""
    torch.save(rosinality, tmp_path / "model.pt", pickle_protocol=protocol)

    state = read_generator(tmp_path / "model.pt").state

    assert torch.equal(rosinality["latent_avg"], state["mapping.w_avg"])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(rosinality, saved, dtype, zipped):
    """Half, bfloat16 and double weights are converted exactly as torch converts them."""
    average = {name: tensor.to(dtype) for name, tensor in rosinality["g_ema"].items()}
    average["style.1.weight"] = average["style.1.weight"].t().contiguous().t()

    checkpoint = read_generator(saved({"g_ema": average}, zipped=zipped))

    assert torch.equal(average["style.1.weight"].float(), checkpoint.state["mapping.fc0.weight"])
    expected = average["convs.2.conv.weight"].float()[0]
    assert torch.equal(expected, checkpoint.state["synthesis.b16.conv0.weight"])
    assert (dtype != torch.float64) == any("half precision" in note for note in checkpoint.notes)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_strided_tensors_keep_their_order(rosinality, saved, zipped):
    """Transposed, channels-last and offset views are read through their strides."""
    average = rosinality["g_ema"]
    weight = average["style.1.weight"].clone()
    stacked = torch.stack([torch.zeros(48), average["style.1.bias"], torch.ones(48)])
    conv = average["convs.3.conv.weight"]
    average |= {
        "style.1.weight": weight.t().contiguous().t(),
        "style.1.bias": stacked[1],
        "convs.3.conv.weight": conv.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
    }
    assert not average["convs.3.conv.weight"].is_contiguous()

    state = read_generator(saved(rosinality, zipped=zipped)).state

    assert torch.equal(weight, state["mapping.fc0.weight"])
    assert torch.equal(stacked[1], state["mapping.fc0.bias"])
    assert torch.equal(conv[0], state["synthesis.b16.conv1.weight"])


def test_prefix_of_several_gpus_is_dropped(rosinality, saved):
    """Forks that save the wrapped model prefix every name with `module.`."""
    prefixed = {f"module.{name}": tensor for name, tensor in rosinality["g_ema"].items()}

    assert read_generator(saved({"g_ema": prefixed})).config.resolution_px == 64


def test_live_network_is_taken_with_a_note(rosinality, saved):
    """A file that holds only `g` is read, and says that the running average is missing."""
    checkpoint = read_generator(saved({"g": rosinality["g_ema"]}))

    assert any("live network" in note for note in checkpoint.notes)


def test_missing_noise_maps_are_seeded_with_a_note(rosinality, saved):
    """Old files store no noise maps: the same seeded ones take their place every time, and a note says so."""
    average = {name: value for name, value in rosinality["g_ema"].items() if not name.startswith("noises.")}
    path = saved({"g_ema": average})

    first, second = read_generator(path), read_generator(path)

    assert any("seeded maps" in note for note in first.notes)
    assert torch.equal(first.state["synthesis.b64.conv0.noise_const"], second.state["synthesis.b64.conv0.noise_const"])
    assert first.state["synthesis.b64.conv0.noise_const"].std() == pytest.approx(1, abs=0.05)


def test_latent_avg_of_one_row_is_the_mean_of_w(rosinality, saved):
    """Some forks store latent_avg as [1, D]."""
    rosinality["latent_avg"] = rosinality["latent_avg"][None]

    assert torch.equal(rosinality["latent_avg"][0], read_generator(saved(rosinality)).state["mapping.w_avg"])


@pytest.mark.parametrize("wrapped", [True, False], ids=["g_ema", "bare"])
def test_plain_state_dict_of_nvidia_is_read(golden, saved, wrapped):
    """The state dict of an NVIDIA network, saved with torch.save, is the same generator."""
    original = read_generator(golden / "ada32resnet" / "network.pkl")
    path = saved({"g_ema": original.state} if wrapped else original.state)

    checkpoint = read_generator(path)

    assert checkpoint.family == "stylegan2-ada-pytorch state dict"
    assert original.config == checkpoint.config
    assert original.state.keys() == checkpoint.state.keys()
    assert all(torch.equal(tensor, checkpoint.state[name]) for name, tensor in original.state.items())


def test_training_options_may_be_a_namespace(psp, saved):
    """Forks of pSp pickle the argparse.Namespace itself; its attributes are read, the class is never made."""
    psp["opts"] = argparse.Namespace(**psp["opts"])

    assert read_encoder(saved(psp)).encoder_type == "GradualStyleEncoder"


def test_narrow_encoder_of_another_input_size_is_read(saved):
    """Units, widths and heads come from the tensors, the input size from our own option or from the heads."""
    options = {"encoder_type": "GradualStyleEncoder", "output_size": 64, "input_size": [64, 64]}

    encoder = read_encoder(saved({"state_dict": _demo_encoder(), "opts": options}))

    assert ((64, 64), 10, 12) == (encoder.input_size_px, encoder.layer_count, encoder.w_dim)
    del options["input_size"]
    assert read_encoder(saved({"state_dict": _demo_encoder(), "opts": options})).input_size_px == (64, 64)


def test_cars_encoder_takes_wide_pictures(golden, saved):
    """The e4e encoder for cars is fed 192 rows of 256 pixels."""
    content = _loaded(golden / "e4e_narrow32" / "model.pt")
    content["opts"]["dataset_type"] = "cars_encode"

    assert read_encoder(saved(content)).input_size_px == (192, 256)


@pytest.mark.parametrize("shape", ["L D", "1 L D", "D", "1 D"])
def test_latent_avg_of_any_shape_becomes_rows(psp, saved, shape):
    """All four shapes in use broadcast as in the originals."""
    layers, dim = psp["latent_avg"].shape
    random = torch.rand([{"L": layers, "D": dim, "1": 1}[axis] for axis in shape.split()])
    psp["latent_avg"] = random

    encoder = read_encoder(saved(psp))

    assert torch.equal(random.broadcast_to(1, layers, dim)[0], encoder.latent_avg)


def test_latent_avg_is_not_added_when_the_options_say_so(psp, saved):
    """An explicit start_from_latent_avg = False wins over the tensor, as in the original, and is noted."""
    psp["opts"]["start_from_latent_avg"] = False

    encoder = read_encoder(saved(psp))

    assert encoder.latent_avg is None
    assert any("not added" in note for note in encoder.notes)


def _bomb():
    """Thirty lists of ten references to the one before: printing it would take 10^30 steps."""
    bomb = ["x"] * 10
    for _ in range(30):
        bomb = [bomb] * 10
    return bomb


def _without(content, *names):
    for name in names:
        del content["state_dict"][name]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.pop("latent_avg"), "start_from_latent_avg is set, but the file has no latent_avg"),
        (lambda c: c["opts"].update(output_size=128), "10 style layers, but output_size for 12"),
        (lambda c: c["opts"].update(output_size=100), "no power of two"),
        (lambda c: c["opts"].update(output_size="64"), "where a whole number is expected"),
        (lambda c: c["opts"].update(encoder_type="Encoder5"), "'Encoder5', but its tensors make it"),
        (lambda c: c["opts"].update(label_nc=5), "the encoder takes 3 channels"),
        (lambda c: c["opts"].update(input_size=[512, 512]), r"input size '\[512, 512\]' is not supported"),
        (lambda c: c["opts"].update(learn_in_w=True), "learn_in_w is set for an encoder"),
        (lambda c: c.update(latent_avg=torch.zeros(3, 12)), r"latent_avg has shape \[3, 12\]"),
        (lambda c: c.update(latent_avg="zero"), "latent_avg is no tensor"),
        (lambda c: c["opts"].update(label_nc=_bomb()), "the option label_nc is a list"),
        (lambda c: c["opts"].update(encoder_type=_bomb()), "the options name the encoder a list"),
        (lambda c: c["opts"].update(input_size=_bomb()), "the input size a list is not supported"),
        (lambda c: c["state_dict"].update({7: torch.zeros(1)}), "an unknown kind of checkpoint"),
        (lambda c: _without(c, "encoder.latlayer1.bias"), r"missing \(1\): 'latlayer1.bias'"),
        (lambda c: _without(c, "encoder.styles.9.convs.10.bias"), r"missing \(1\): 'styles.9.convs.10.bias'"),
        (lambda c: c["state_dict"].update({"encoder.extra": torch.zeros(1)}), r"belong .* \(1\): 'extra'"),
        (lambda c: c["state_dict"]["encoder.body.2.res_layer.4.running_var"].fill_(-1), "negative variances"),
        (lambda c: c["state_dict"]["encoder.latlayer2.bias"].fill_(np.nan), "'encoder.latlayer2.bias' holds NaN"),
    ],
)
def test_contradictions_in_an_encoder_file_are_named(psp, saved, change, reason):
    """A file whose options, tensors and latent_avg do not fit together is refused with what contradicts."""
    change(psp)

    with pytest.raises(CheckpointError, match=reason):
        read_encoder(saved(psp))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop("convs.3.noise.weight"), "missing .*'synthesis.b16.conv1.noise_strength'"),
        (lambda s: s.pop("convs.5.conv.weight"), "'synthesis.b32.conv1.weight' is missing"),
        (lambda s: s.update({"convs.77.conv.weight": torch.zeros(1, 1)}), "are no generator"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "'extra.weight' does not belong"),
        (lambda s: s.update({"conv1.noise.weight": torch.zeros(2)}), "should have size 1"),
        (lambda s: s.update({"to_rgb1.bias": torch.zeros(1, 3, 1, 2)}), "should have size 1"),
        (lambda s: s["convs.0.conv.weight"].fill_(torch.inf), "'convs.0.conv.weight' holds NaN or infinite"),
        (lambda s: s["to_rgbs.0.upsample.kernel"].fill_(1), "different up-sampling filters"),
        (lambda s: s.update({"style.1.bias": torch.zeros(48, dtype=torch.int64)}), "'style.1.bias' holds int64"),
        (lambda s: s.update({"style.1.bias": "text"}), "no tensor: 'style.1.bias'"),
    ],
)
def test_broken_generators_are_refused_by_tensor(rosinality, saved, change, reason):
    """A missing, surplus, misshapen or broken tensor of a generator is named."""
    change(rosinality["g_ema"])

    with pytest.raises(CheckpointError, match=reason):
        read_generator(saved(rosinality))


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["generator.progression.0.conv1.conv.weight"], "StyleGAN1"),
        ([f"main.{index}.weight" for index in (0, 3, 6, 9, 12)], "DCGAN"),
        (["dense.weight", "residual_block1.conv1.weight"], "anime"),
        (["synthesis.input.freqs"], "StyleGAN3"),
        (["shared.weight"], "an unknown kind of checkpoint, which holds 'shared.weight'"),
    ],
)
def test_neighbouring_generators_are_refused_by_name(saved, names, kind):
    """Networks that people may try are recognized, and not taken for something else."""
    with pytest.raises(CheckpointError, match=f"{kind}.*supported are"):
        read_generator(saved({name: torch.zeros(2) for name in names}))


class _Module:
    """A module as NVIDIA's persistence pickles it."""

    def __init__(self, attributes, modules=None, **tensors):
        sections = {"_parameters": tensors, "_buffers": {}, "_modules": modules or {}}
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit('the source was run')\n",
            "class_name": "Generator",
            "state": attributes | sections,
        }

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


def _reconstruct_persistent_obj(meta):
    raise AssertionError(f"called for {meta['class_name']}")


@pytest.fixture
def nvidia(golden, monkeypatch, tmp_path):
    """Writes an NVIDIA pickle around real tensors; ``attributes`` change those of modules."""
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    for name in ("torch_utils", "torch_utils.persistence"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    state = read_generator(golden / "ada32cond" / "network.pkl").state

    def module(prefix, attributes):
        inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        children = dict.fromkeys(name.partition(".")[0] for name in inside if "." in name)
        return _Module(
            attributes.get(prefix.rstrip("."), {}),
            {child: module(f"{prefix}{child}.", attributes) for child in children},
            **{name: torch.nn.Parameter(value) for name, value in inside.items() if "." not in name},
        )

    def write(attributes=None, *, protocol=4):
        content = {"G": module("", {}), "G_ema": module("", attributes or {}), "D": None}
        (tmp_path / "network.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        return tmp_path / "network.pkl"

    return write


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nvidia_pickle_of_any_protocol_is_read(golden, nvidia, protocol):
    """Protocols 2 to 5 (2 writes bytes as text) give the same tensors; the source text is never run."""
    original = read_generator(golden / "ada32cond" / "network.pkl")

    checkpoint = read_generator(nvidia(protocol=protocol))

    assert original.config == checkpoint.config
    assert all(torch.equal(tensor, checkpoint.state[name]) for name, tensor in original.state.items())


@pytest.mark.parametrize(
    ("module", "attributes", "reason"),
    [
        ("", {"z_dim": 99}, "says that z_dim is '99', but its tensors make it 24"),
        ("synthesis.b8.conv0", {"activation": "swish"}, "activation of layer 'synthesis.b8.conv0' is 'swish'"),
        ("synthesis.b8.conv1", {"up": 2}, "up of layer"),
        ("synthesis.b8.conv1", {"act_gain": 1.0}, "act_gain of layer"),
        ("synthesis.b8.conv1", {"conv_clamp": 3}, "different limits"),
        ("synthesis.b8.conv1", {"conv_clamp": "256"}, "no positive number"),
        ("synthesis.b8.conv1", {"conv_clamp": -1.0}, "no positive number"),
        ("mapping.fc0", {"bias_gain": 0.02, "weight_gain": 0.02 / 56**0.5}, "different values of bias_gain"),
        ("mapping.fc0", {"weight_gain": 1.0}, "weight_gain of layer 'mapping.fc0'"),
        ("synthesis.b8.torgb.affine", {"activation": "lrelu"}, "activation of layer"),
    ],
)
def test_unusual_attributes_of_nvidia_networks_are_refused(nvidia, module, attributes, reason):
    """An attribute that would change the numbers in a way that is not supported is named, not ignored."""
    with pytest.raises(CheckpointError, match=re.escape(reason)):
        read_generator(nvidia({module: attributes}))


def test_limit_of_activations_comes_from_the_attributes(nvidia):
    """conv_clamp is read from the layers, and fp16 from the blocks."""
    layers = [f"synthesis.b{r}.{layer}" for r in (4, 8, 16, 32) for layer in ("conv0", "conv1", "torgb")]
    attributes = {layer: {"conv_clamp": 7} for layer in layers} | {"synthesis.b32": {"use_fp16": True}}

    config = read_generator(nvidia(attributes)).config

    assert (7.0, 1) == (config.conv_clamp, config.fp16_resolution_count)


def test_shared_modules_do_not_multiply(nvidia, tmp_path):
    """Modules that hold the same module twice, again and again, are cut off: sixty of them make 2^60 paths."""
    module = _Module({})
    for _ in range(60):
        module = _Module({}, {"a": module, "b": module})
    nvidia()  # puts the writer's stand-ins in place
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps({"G_ema": module}, protocol=4))

    with pytest.raises(CheckpointError, match="more than 2000 modules"):
        read_generator(tmp_path / "bomb.pkl")


def test_snapshot_without_the_running_average_is_refused(nvidia, tmp_path):
    """A pickle with `G` alone is not silently read as `G`."""
    content = nvidia().read_bytes().replace(b"G_ema", b"G_emb")
    (tmp_path / "other.pkl").write_bytes(content)

    with pytest.raises(CheckpointError, match="without the generator G_ema"):
        read_generator(tmp_path / "other.pkl")
