"""Arithmetic on latents: against the originals' stored results and against its own laws."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stylewire import latents
from stylewire.latents import broadcast, lerp, mix, random_noise, sample_z, slerp, truncate

REAL = st.floats(-1000, 1000, width=32)
CODES = hnp.arrays(np.float32, (4, 3), elements=REAL)
ROWS = hnp.arrays(np.float32, 3, elements=REAL)
WEIGHTS = st.floats(0, 1)
LAYERS = st.slices(4).filter(lambda layers: layers.step is None or layers.step > 0)


def test_sample_z_equals_the_originals(golden):
    """The z of a seed is that of NVIDIA's generate.py, cast to float32."""
    stored = np.load(golden / "ada64" / "io.npz")
    expected = stored["z"].astype(np.float32)

    assert np.array_equal(expected, np.stack([sample_z(seed, 64) for seed in range(len(expected))]))


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_sample_z_takes_the_whole_range_of_seeds(seed):
    """Both ends of the range of seeds give Z finite float32 values."""
    z = sample_z(seed, 512)

    assert ((512,), np.float32, True) == (z.shape, z.dtype, bool(np.isfinite(z).all()))


def test_broadcast_repeats_w_for_every_layer():
    """A w becomes a code whose rows are all that w, for any leading axes."""
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    code = broadcast(w, 5)

    assert (2, 5, 3) == code.shape
    assert all(np.array_equal(w, code[:, row]) for row in range(5))


def test_truncate_equals_the_originals(golden):
    """Truncation with and without a cutoff gives the stored codes within 1e-7 of their range."""
    stored = np.load(golden / "ada64" / "io.npz")
    for name, psi, layers in [("w_psi07", 0.7, slice(None)), ("w_psi05_cut4", 0.5, slice(0, 4))]:
        found = truncate(broadcast(stored["w"], 10), stored["w_avg"], psi, layers)
        difference = float(np.abs(stored[name] - found).max() / np.abs(stored[name]).max())
        print(f"{name}: max relative difference {difference:.1e}")

        assert difference <= 1e-7


@given(CODES, ROWS, LAYERS)
def test_truncate_is_exact_at_both_ends(code, mean, layers):
    """Psi 1 keeps the code bit for bit, psi 0 gives the mean, and other rows never change."""
    other_rows = np.ones(4, bool)
    other_rows[layers] = False
    collapsed = truncate(code, mean, 0, layers)

    assert np.array_equal(code, truncate(code, mean, 1, layers))
    assert np.array_equal(np.broadcast_to(mean, collapsed[layers].shape), collapsed[layers])
    assert np.array_equal(code[other_rows], collapsed[other_rows])


@given(CODES, CODES, WEIGHTS)
def test_lerp_equals_pytorch(a, b, t):
    """The rounding is that of PyTorch's lerp, which NVIDIA's truncation uses, but for one fused multiplication."""
    expected = torch.lerp(torch.from_numpy(a), torch.from_numpy(b), t).numpy()
    scale = np.maximum(np.abs(a), np.abs(b))

    assert np.all(np.abs(expected - lerp(a, b, t)) <= 2.5e-7 * scale)


@given(CODES, CODES, LAYERS, WEIGHTS)
def test_mix_changes_only_the_layers_asked_for(code, other, layers, weight):
    """Rows outside stay, rows inside lie between both codes, and neither input is touched."""
    before = code.copy(), other.copy()
    other_rows = np.ones(4, bool)
    other_rows[layers] = False
    mixed = mix(code, other, layers, weight)
    low, high = np.minimum(code, other)[layers], np.maximum(code, other)[layers]
    slack = 1e-6 * np.maximum(np.abs(low), np.abs(high))

    assert np.array_equal(code[other_rows], mixed[other_rows])
    assert np.all((low - slack <= mixed[layers]) & (mixed[layers] <= high + slack))
    assert np.array_equal(before, (code, other))


@given(CODES, CODES, LAYERS)
def test_mix_is_idempotent(code, other, layers):
    """Mixing the same rows in twice changes nothing more, and weight 0 changes nothing at all."""
    mixed = mix(code, other, layers)

    assert np.array_equal(other[layers], mixed[layers])
    assert np.array_equal(mixed, mix(mixed, other, layers))
    assert np.array_equal(code, mix(code, other, layers, 0))


@given(ROWS, ROWS)
def test_slerp_meets_both_ends(a, b):
    """At 0 and 1 the ends come out within float32 rounding, opposite and parallel ends included."""
    for left, right in [(a, b), (a, a), (a, -a)]:
        scale = max(np.abs(left).max(), np.abs(right).max())

        assert np.allclose(left, slerp(left, right, 0), rtol=0, atol=1e-6 * scale)
        assert np.allclose(right, slerp(left, right, 1), rtol=0, atol=1e-6 * scale)


@given(ROWS, ROWS, WEIGHTS)
def test_slerp_keeps_the_magnitude_linear(a, b, t):
    """The length runs linearly from end to end, also between opposite vectors, where a straight line meets zero."""
    assume(np.linalg.norm(a) > 1e-3)
    assume(np.linalg.norm(b) > 1e-3)
    for right in (b, a, -a):
        expected = (1 - t) * np.linalg.norm(a.astype(float)) + t * np.linalg.norm(right.astype(float))

        assert np.isclose(expected, np.linalg.norm(slerp(a, right, t).astype(float)), rtol=1e-6)


def test_slerp_turns_at_constant_speed():
    """Between perpendicular directions the angle grows linearly."""
    x, y = np.eye(2, dtype=np.float32)
    angles = [np.arctan2(*slerp(x, y, t)[::-1]) for t in np.linspace(0, 1, 7)]

    assert np.allclose(np.linspace(0, np.pi / 2, 7), angles, atol=1e-6)


@given(ROWS, WEIGHTS)
def test_slerp_to_zero_is_a_straight_line(a, t):
    """A zero vector has no direction: the way to it is straight, and finite."""
    zero = np.zeros(3, np.float32)

    assert np.array_equal(lerp(a, zero, t), slerp(a, zero, t))


def test_random_noise_depends_on_the_seed_alone():
    """The noise of a seed is the same whatever was drawn before; a shorter draw is its beginning."""
    noise = random_noise(7, 10_896)
    random_noise(8, 5)

    assert (np.float32, (10_896,)) == (noise.dtype, noise.shape)
    assert np.array_equal(noise, random_noise(7, 10_896))
    assert np.array_equal(noise[:100], random_noise(7, 100))
    assert not np.array_equal(noise, random_noise(8, 10_896))
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


def test_random_noise_of_a_seed_never_changes():
    """The first values of seed 7 are pinned: images of a seed must survive upgrades."""
    expected = np.array([-0.5023736, 0.50684536, 2.0193486, 0.85149574], np.float32)

    assert np.array_equal(expected, random_noise(7, 4))


def test_layer_resolutions_follow_the_rows():
    """Rows 2j - 1 and 2j work at 2^(j + 2) px; the last row, which feeds only an image layer, at R."""
    assert (4, 8, 8, 16, 16, 32, 32, 32) == latents.layer_resolutions(32)
    assert 18 == len(latents.layer_resolutions(1024))
    assert (1024,) * 3 == latents.layer_resolutions(1024)[-3:]


@pytest.mark.parametrize(
    ("resolution_px", "coarse", "middle", "fine"),
    [(64, slice(0, 3), slice(3, 7), slice(7, 10)), (1024, slice(0, 3), slice(3, 7), slice(7, 18))],
)
def test_role_layers_cover_the_code_once(resolution_px, coarse, middle, fine):
    """Coarse, middle and fine are 4 to 8, 16 to 32 and 64 px up, and every row has the role that claims it."""
    resolutions = latents.layer_resolutions(resolution_px)
    slices = {
        role: latents.resolution_layers(resolutions, *latents.ROLE_RANGES_PX[role])
        for role in ("coarse", "middle", "fine")
    }

    assert {"coarse": coarse, "middle": middle, "fine": fine} == slices
    for role, layers in slices.items():
        assert {role} == {latents.role_of(each) for each in resolutions[layers]}


def test_resolution_layers_names_what_the_model_has():
    """A range without a layer is refused and the model's range named; a single resolution is found."""
    resolutions = latents.layer_resolutions(32)

    assert slice(3, 5) == latents.resolution_layers(resolutions, 16, 16)
    with pytest.raises(ValueError, match=r"no layer works at 64 to 65536 px.* 4 to 32 px"):
        latents.resolution_layers(resolutions, *latents.ROLE_RANGES_PX["fine"])
