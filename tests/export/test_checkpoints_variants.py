"""Legitimate variants of generators in torch files, and networks that are broken or of another kind."""

import pytest
import torch

from stylewire_export.checkpoints import read_generator
from stylewire_export.errors import CheckpointError


def _loaded(path):
    return torch.load(path, map_location="cpu", weights_only=False)


@pytest.fixture
def rosinality(golden):
    """A converted file of the port: {g_ema, latent_avg}."""
    return _loaded(golden / "ros64_narrow" / "model.pt")


@pytest.fixture
def saved(tmp_path):
    """Writes an object as the given container and gives the path."""

    def save(content, *, zipped=True):
        torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
        return tmp_path / "model.pt"

    return save


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
        (["synthesis.input.freqs"], "StyleGAN3"),
        (["shared.weight"], "an unknown kind of checkpoint, which holds 'shared.weight'"),
    ],
)
def test_neighbouring_generators_are_refused_by_name(saved, names, kind):
    """Networks that people may try are recognized, and not taken for something else."""
    with pytest.raises(CheckpointError, match=f"{kind}.*supported are"):
        read_generator(saved({name: torch.zeros(2) for name in names}))
