"""Paths through keyframes against NVIDIA's stored frames and SciPy's splines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline, interp1d

from stylewire.keyframes import CubicPath, Easing, frame_positions, segment


def _on_path(keyframes, positions, *, looped):
    """Evaluate the cubic path at many positions, float32[F, ...]."""
    path = CubicPath.through(keyframes, looped=looped)
    return np.stack([path.at(float(position)) for position in positions])


def _keyframes(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 6, 4)).astype(np.float32)


def test_cubic_path_equals_the_originals_frames(golden):
    """A looped path through NVIDIA's keyframes gives the stored frames of gen_video."""
    stored = np.load(golden / "ada64" / "interpolation.npz")
    keyframes, expected = stored["keyframes"], stored["frames_w"]  # [K, L, D] and [F, D]
    positions = frame_positions(len(keyframes), len(expected), looped=True)
    found = _on_path(keyframes, positions, looped=True)
    difference = float(np.abs(expected[:, np.newaxis] - found).max() / np.abs(expected).max())
    print(f"max relative difference {difference:.1e}")

    assert difference <= 1e-7


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_looped_cubic_path_equals_scipy(count):
    """Looped, the path is SciPy's cubic interpolation over five turns of the keyframes."""
    keyframes = _keyframes(count)
    positions = np.linspace(0, count, 57, endpoint=False)
    tiled = np.concatenate([keyframes] * 5).astype(np.float64)
    expected = interp1d(np.arange(-2 * count, 3 * count), tiled, kind="cubic", axis=0)(positions)
    difference = float(np.abs(expected - _on_path(keyframes, positions, looped=True)).max())
    print(f"K = {count}: max difference {difference:.1e}")

    assert difference <= 5e-7


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 40])
def test_open_cubic_path_equals_scipy(count):
    """Not looped, it is SciPy's not-a-knot spline: a line through 2 keyframes, the parabola through 3."""
    keyframes = _keyframes(count)
    positions = np.linspace(0, count - 1, 57)
    expected = CubicSpline(np.arange(count), keyframes.astype(np.float64))(positions)
    difference = float(np.abs(expected - _on_path(keyframes, positions, looped=False)).max())
    print(f"K = {count}: max difference {difference:.1e}")

    assert difference <= 5e-7


def test_cubic_path_through_one_keyframe_stays_there():
    """A single keyframe is the whole path."""
    keyframes = _keyframes(1)

    assert np.array_equal(np.repeat(keyframes, 3, axis=0), _on_path(keyframes, np.zeros(3), looped=False))


@given(st.integers(1, 9), st.booleans())
def test_cubic_path_meets_its_keyframes(count, looped):
    """At whole positions the path is the keyframe, bit for bit."""
    keyframes = _keyframes(count)
    path = CubicPath.through(keyframes, looped=looped)

    assert all(np.array_equal(keyframes[i], path.at(i)) for i in range(count))


@given(st.integers(1, 20), st.integers(1, 200), st.booleans(), st.sampled_from(Easing))
def test_frame_positions_rise_within_the_keyframes(keyframe_count, frame_count, looped, easing):
    """Positions begin at 0, never fall, and stay in range; a clip that is not looped ends at its last keyframe."""
    positions = frame_positions(keyframe_count, frame_count, looped, easing)

    assert ((frame_count,), np.float64, 0) == (positions.shape, positions.dtype, positions[0])
    assert np.all(np.diff(positions) >= 0)
    assert positions[-1] < keyframe_count if looped else positions[-1] <= keyframe_count - 1
    if not looped and frame_count > 1:
        assert keyframe_count - 1 == positions[-1]


def test_looped_frames_are_those_of_the_originals_clip():
    """Looped, frame i of K * n frames is at i / n: the clip repeats without a doubled frame."""
    assert np.array_equal(np.arange(12) / 4, frame_positions(3, 12, looped=True))


@pytest.mark.parametrize("easing", Easing)
def test_easing_keeps_keyframes_and_bends_between(easing):
    """Every easing meets 0 and 1 and rises; its middle is where its formula puts it."""
    expected = {"linear": 0.5, "ease_in": 0.25, "ease_out": 0.75, "ease_in_out": 0.5}[easing]
    times = np.linspace(0, 1, 101)
    eased = easing(times)

    assert (0, expected, 1) == (eased[0], eased[50], eased[-1])
    assert np.all(np.diff(eased) > 0)


def test_ease_in_out_starts_and_ends_at_rest():
    """The speed of ease_in_out is zero at both keyframes and symmetric."""
    eased = Easing.EASE_IN_OUT(np.linspace(0, 1, 101))

    assert np.allclose(eased, 1 - eased[::-1])
    assert eased[1] < 0.001


@pytest.mark.parametrize(
    ("position", "expected"),
    [(0.0, (0, 1, 0.0)), (1.25, (1, 2, 0.25)), (2.0, (2, 0, 0.0)), (2.5, (2, 0, 0.5))],
)
def test_segment_names_the_keyframes_around(position, expected):
    """A position lies between two keyframes; after the last one comes the first."""
    assert expected == segment(position, 3)
