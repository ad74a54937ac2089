"""Pixel noise over a real connection: what it may and may not change."""

import numpy as np
import pytest

from stylewire import pb
from stylewire.tensors import to_array
from support.pictures import pixels, shown, worst_difference

TENSOR = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
LATENT = pb.Latent(seed=1)


def random(seed=None, strength=None) -> pb.Noise:
    return pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=seed, strength=strength)


NOISES = {
    "const": pb.Noise(),
    "none": pb.Noise(mode=pb.Noise.MODE_NONE),
    "random": random(5),
    "strong": random(5, 2.5),
}


def draw(stub, noise, count=1, **fields) -> list[pb.Image]:
    return list(stub.Generate(pb.GenerateRequest(latents=[LATENT] * count, noise=noise, **fields)).images)


def through_mix(stub, noise):
    request = pb.MixStylesRequest(content=LATENT, styles=[pb.StyleSource(latent=LATENT)], noise=noise)
    return stub.MixStyles(request).image


def through_interpolate(stub, noise):
    request = pb.InterpolateRequest(keyframes=[LATENT] * 2, frame_count=2, noise=noise)
    return [frame.image for frame in stub.Interpolate(request)][1]


@pytest.mark.parametrize("call", [through_mix, through_interpolate])
@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_noise_is_the_same_in_every_call(small, call, noise):
    """The same noise gives the same picture of the same code, whichever call makes it."""
    assert 1 >= worst_difference(draw(small, noise), [call(small, noise)])


def test_unset_seed_is_seed_zero(small):
    """RANDOM without a seed is not arbitrary: it is seed 0."""
    assert draw(small, random()) == draw(small, random(0))


def test_seeds_up_to_the_largest_differ(small):
    """Seeds in all of [0, 2^63) are told apart."""
    seeds = (0, 1, 2**31, 2**32, 2**32 + 1, 2**62, 2**63 - 1)

    assert len(seeds) == len({shown(draw(small, random(seed)))[0] for seed in seeds})


def test_last_seed_goes_on_behind_the_range(small):
    """Image k uses seed + k also where that is over 2^63 - 1."""
    images = draw(small, random(2**63 - 1), count=3)

    assert 3 == len(set(shown(images)))


def test_random_noise_does_not_depend_on_the_batch(small):
    """Image k of a request is the picture of seed + k alone."""
    alone = [draw(small, random(40 + k))[0] for k in range(6)]

    assert 1 >= worst_difference(alone, draw(small, random(40), count=6))


@pytest.mark.parametrize("mode", [pb.Noise.MODE_CONST, pb.Noise.MODE_RANDOM])
def test_strength_scales_the_noise(small, mode):
    """Strength 1 is the default, 0 is no noise, and more makes more difference."""
    none = to_array(draw(small, pb.Noise(mode=pb.Noise.MODE_NONE), output_config=TENSOR)[0].tensor)
    by_strength = {
        strength: to_array(draw(small, pb.Noise(mode=mode, strength=strength), output_config=TENSOR)[0].tensor)
        for strength in (None, 0, 0.1, 1, 2)
    }
    far = {strength: np.abs(image - none).mean() for strength, image in by_strength.items()}

    assert np.array_equal(by_strength[None], by_strength[1])
    assert np.array_equal(none, by_strength[0])
    assert 0 < far[0.1] < far[1] < far[2]


def test_noise_leaves_the_subject(demo):
    """Noise changes texture, not what the picture shows: far less than another seed does."""
    const, other = (pixels(draw(demo, noise)[0]).astype(float) for noise in (pb.Noise(), random(1)))
    request = pb.GenerateRequest(latents=[pb.Latent(seed=2)])
    stranger = pixels(demo.Generate(request).images[0]).astype(float)

    assert np.abs(const - other).mean() < np.abs(const - stranger).mean() / 2
