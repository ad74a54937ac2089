"""The generator and encoder classes, and what checkpoints may make of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stylewire_export.checkpoints import read_encoder, read_generator
from stylewire_export.checkpoints.config import GeneratorCheckpoint
from stylewire_export.errors import CheckpointError
from stylewire_export.networks.encoder import make_encoder
from stylewire_export.networks.generator import Generator
from stylewire_export.networks.loading import encoder_config, load_encoder, load_generator


def checkpoint_of(generator, **changes):
    state = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    return GeneratorCheckpoint(family="test", config=generator.config, state=state, has_w_avg=True, **changes)


def noise_inputs(generator, *, strength, noise):
    count = len(noise)
    return torch.full((count,), float(strength)), noise


def test_noise_input_follows_the_layer_order(tiny_generator):
    """The stored maps, concatenated in layer order and given as new noise, draw what the stored noise draws."""
    synthesis = tiny_generator.synthesis
    names = ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1", "b32.conv0", "b32.conv1"]
    maps = torch.cat([synthesis.get_submodule(name).noise_const.flatten() for name in names])
    codes = torch.randn(2, 8, 8)

    stored = synthesis(codes, *noise_inputs(tiny_generator, strength=1, noise=torch.zeros(2, 1)))
    given = synthesis(codes, *noise_inputs(tiny_generator, strength=0, noise=maps.repeat(2, 1)))

    assert synthesis.noise_size == len(maps)
    torch.testing.assert_close(given, stored)


def test_noise_input_may_be_a_prefix(tiny_generator):
    """A shorter noise draws what the same noise followed by zeros draws."""
    synthesis = tiny_generator.synthesis
    codes, noise = torch.randn(2, 8, 8), torch.randn(2, 100)
    padded = torch.cat([noise, torch.zeros(2, synthesis.noise_size - 100)], 1)

    short = synthesis(codes, *noise_inputs(tiny_generator, strength=0, noise=noise))
    full = synthesis(codes, *noise_inputs(tiny_generator, strength=0, noise=padded))

    torch.testing.assert_close(short, full, rtol=0, atol=0)


def test_noise_of_one_item_does_not_reach_another(tiny_generator):
    """Items of one batch keep their own noise mode."""
    codes = torch.randn(1, 8, 8).repeat(2, 1, 1)
    noise = torch.zeros(2, tiny_generator.synthesis.noise_size)
    noise[1].normal_()

    const, random = tiny_generator.synthesis(codes, torch.tensor([1.0, 0.0]), noise)
    alone = tiny_generator.synthesis(codes[:1], torch.ones(1), torch.zeros(1, 1))[0]

    torch.testing.assert_close(const, alone)
    assert not torch.allclose(random, alone)


def test_label_is_normalized_with_z_where_tensorflow_does(tiny_generator):
    """TensorFlow StyleGAN2 puts the embedded label beside z first and normalizes the two together."""
    config = replace(tiny_generator.config, label_dim=3, embed_dim=8, label_concat=True)
    mapping = Generator(config).mapping
    z, label = torch.randn(2, 8), torch.eye(3)[:2]
    joint = torch.cat([z, label @ mapping.embed.weight.t()], 1)
    joint = joint / (joint.square().mean(1, keepdim=True) + 1e-8).sqrt()

    torch.testing.assert_close(mapping(z, label), mapping.fc1(mapping.fc0(joint)))


def test_synthesis_without_its_noise_inputs_is_an_error(tiny_generator):
    """A network with noise layers does not quietly draw without noise."""
    with pytest.raises(TypeError, match="pass noise_strength and noise"):
        tiny_generator.synthesis(torch.randn(1, 8, 8))


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_generator_learns_through_every_parameter(tiny_generator, architecture):
    """Every parameter of a fresh generator has a gradient that is finite and not zero."""
    torch.manual_seed(0)
    generator = Generator(replace(tiny_generator.config, architecture=architecture))
    codes = generator.mapping(torch.randn(4, 8))[:, None].expand(-1, 8, -1)
    noise = torch.randn(4, generator.synthesis.noise_size)

    generator.synthesis(codes, torch.zeros(4), noise).square().mean().backward()

    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


def test_encoder_learns_and_tracks_statistics(tiny_encoder):
    """A fresh encoder in training updates its batch norms, and every parameter gets a gradient."""
    encoder = make_encoder(tiny_encoder.config).train()
    before = encoder.input_layer[1].running_mean.clone()

    encoder(torch.randn(4, 3, 32, 32)).square().mean().backward()

    assert not torch.equal(before, encoder.input_layer[1].running_mean)
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name


def test_checkpoint_files_give_the_networks_back(tiny_checkpoints, tiny_generator, tiny_encoder):
    """Networks written as checkpoints and read again have the same structure and the same tensors."""
    generator_path, encoder_path = tiny_checkpoints

    generator = load_generator(read_generator(generator_path))
    encoder = load_encoder(read_encoder(encoder_path))

    assert tiny_generator.config == generator.config
    assert tiny_encoder.config == encoder.config
    for name, tensor in tiny_generator.state_dict().items():
        torch.testing.assert_close(generator.state_dict()[name], tensor, rtol=0, atol=0, msg=name)
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encoder(image), tiny_encoder(image), rtol=0, atol=0)


def test_generator_without_mean_estimates_it(tiny_generator):
    """A file without the mean of w gets the mean of seeded samples, near the true one and always the same."""
    checkpoint = replace(checkpoint_of(tiny_generator), has_w_avg=False)
    del checkpoint.state["mapping.w_avg"]

    mean = load_generator(checkpoint).mapping.w_avg

    w = tiny_generator.mapping(torch.from_numpy(np.random.RandomState(7).randn(10_000, 8).astype(np.float32)))
    assert float((w.mean(0) - mean).abs().max()) < 5 * float(w.std()) / 100
    assert torch.equal(mean, load_generator(checkpoint).mapping.w_avg)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("synthesis.b8.conv0.weight"), "are missing .*synthesis.b8.conv0.weight"),
        (lambda state: state.update({"synthesis.b64.const": torch.zeros(1)}), "are not part of it .*b64"),
    ],
    ids=["missing", "surplus"],
)
def test_generator_tensors_must_fit_strictly(tiny_generator, change, words):
    """A tensor that is missing or left over is an error that names it."""
    checkpoint = checkpoint_of(tiny_generator)
    change(checkpoint.state)

    with pytest.raises(CheckpointError, match=words):
        load_generator(checkpoint)


def test_encoder_structure_comes_from_the_file(golden):
    """The published unit counts and any widths are read from names and shapes."""
    config = encoder_config(read_encoder(golden / "psp_narrow64" / "model.pt"))

    assert (4, 4, 6, 8, 12) == config.widths
    assert (3, 4, 14, 3) == config.unit_counts
    assert (2, 3, 4, 6) == config.squeeze_widths
    assert (4, 5, 6) == config.head_depths
