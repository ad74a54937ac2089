"""Legitimate variants of pSp and e4e files, and files whose options contradict their tensors."""

import argparse

import numpy as np
import pytest
import torch

from stylewire_export.checkpoints import read_encoder
from stylewire_export.checkpoints.encoder_layout import COARSE_STYLES, MIDDLE_STYLES
from stylewire_export.errors import CheckpointError


def _loaded(path):
    return torch.load(path, map_location="cpu", weights_only=False)


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


@pytest.mark.parametrize("factors", ["8", " 8 ", 8, [8]], ids=repr)
def test_super_resolution_with_one_factor_reduces_by_it(psp, saved, factors):
    """One factor in the options, however it is written, is the factor of every input."""
    psp["opts"] |= {"dataset_type": "celebs_super_resolution", "resize_factors": factors}
    encoder = read_encoder(saved(psp))

    assert ("super_resolution", 8) == (encoder.task, encoder.reduction)
    assert not any("resize_factors" in note for note in encoder.notes)


@pytest.mark.parametrize("factors", [None, "1,2,4,8", [1, 2], "0", 33, 10**100, "x", [[8]], True])
def test_super_resolution_without_one_factor_takes_photos_as_they_are(psp, saved, factors):
    """The originals draw one of several factors at random, which nothing can repeat; a note says so."""
    psp["opts"] |= {"dataset_type": "celebs_super_resolution", "resize_factors": factors}
    encoder = read_encoder(saved(psp))

    assert encoder.reduction is None
    assert any("resize_factors" in note for note in encoder.notes)


def test_other_tasks_do_not_reduce(psp, saved):
    """Factors that training wrote into the options of another task mean nothing."""
    psp["opts"] |= {"resize_factors": "8"}

    assert read_encoder(saved(psp)).reduction is None


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
