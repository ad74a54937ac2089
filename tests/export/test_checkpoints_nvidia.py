"""Pickles of NVIDIA's PyTorch code, written around real tensors: protocols, attributes, shared modules."""

import pickle
import re
import sys
import types

import pytest
import torch

from stylewire_export.checkpoints import read_generator
from stylewire_export.errors import CheckpointError


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
