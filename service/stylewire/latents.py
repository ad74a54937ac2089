"""Arithmetic on latents: sampling, truncating, mixing, and naming layers; ``keyframes.py`` has paths. Pure numpy.

Shape legend of the whole project:
``N`` batch, ``Z`` z_dim, ``D`` w_dim, ``L`` layers (rows of a w+ code), ``K`` keyframes, ``F`` frames,
``H W`` pixels, ``C`` channels, ``R`` resolution, ``P`` values of all noise maps. A *code* is float32[L, D].
"""

import threading
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Array64 = NDArray[np.float64]
Role = Literal["coarse", "middle", "fine"]

ROLE_RANGES_PX: dict[Role, tuple[int, int]] = {"coarse": (4, 8), "middle": (16, 32), "fine": (64, 2**16)}
"""Role -> lowest and highest resolution. Source: Karras et al. 2019, section 3.1 ("Style mixing")."""


class _Generators(threading.local):
    """One legacy generator per thread: seeding one that is shared would be a race."""

    def __init__(self) -> None:
        self.legacy = np.random.RandomState()


_generators = _Generators()


def sample_z(seed: int, z_dim: int) -> Array:
    """Draw the z of a seed, equal to that of NVIDIA's generate.py.

    Args:
        seed: in [0, 2**32).
        z_dim: Z.

    Returns:
        float32[Z], standard normal.
    """
    # The legacy generator is the point: published seeds mean these very numbers. A new one would first seed itself from
    # the system, which takes ten times as long as the rest.
    _generators.legacy.seed(seed)
    return _generators.legacy.randn(z_dim).astype(np.float32)


def random_noise(seed: int, size: int) -> Array:
    """Draw the noise maps of one image; they depend on nothing but the seed.

    Args:
        seed: in [0, 2**63).
        size: P, the number of values of all maps.

    Returns:
        float32[P], standard normal.
    """
    return np.random.Generator(np.random.Philox(seed)).standard_normal(size, dtype=np.float32)


def broadcast(w: Array, layer_count: int) -> Array:
    """Repeat a w for every layer.

    Args:
        w: float32[..., D].
        layer_count: L.

    Returns:
        float32[..., L, D], a new array.
    """
    return np.repeat(w[..., np.newaxis, :], layer_count, axis=-2)  # [..., L, D]


def truncate(code: Array, mean: Array, psi: float, layers: slice = slice(None)) -> Array:
    """Pull some layers of a code toward the mean.

    Args:
        code: float32[..., L, D].
        mean: float32[D], or anything that broadcasts against the layers.
        psi: 1 keeps the code exactly, 0 is the mean exactly.
        layers: the rows to pull; the others stay as they are.

    Returns:
        float32[..., L, D], a new array.

    Source: Karras et al. 2019, section 3 ("truncation trick in W").
    """
    truncated = code.copy()
    truncated[..., layers, :] = lerp(mean, code[..., layers, :], psi)
    return truncated


def mix(code: Array, other: Array, layers: slice, weight: float = 1.0) -> Array:
    """Replace some layers of a code by those of another.

    Args:
        code: float32[..., L, D].
        other: float32[..., L, D].
        layers: the rows to replace.
        weight: share of ``other`` in those rows; 1 replaces them exactly, 0 changes nothing.

    Returns:
        float32[..., L, D], a new array.
    """
    mixed = code.copy()
    mixed[..., layers, :] = lerp(code[..., layers, :], other[..., layers, :], weight)
    return mixed


def lerp(a: Array, b: Array, t: float) -> Array:
    """Interpolate on the straight line from ``a`` (t = 0) to ``b`` (t = 1); both ends are exact.

    Starting from the nearer end keeps the ends exact and rounds as PyTorch's lerp, hence as NVIDIA's truncation.

    Args:
        a: float32[...].
        b: float32[...], broadcastable against ``a``.
        t: position; values outside [0, 1] extrapolate.

    Returns:
        float32[...].
    """
    weight = np.float32(t)
    return a + weight * (b - a) if weight < 0.5 else b - (np.float32(1) - weight) * (b - a)


def slerp(z_a: Array, z_b: Array, t: float) -> Array:
    """Interpolate from one z to another on the great circle of their directions, with linear magnitude.

    Directions that are opposite have no unique great circle: a fixed one is taken. A zero vector has no direction: it
    takes that of the other end.

    Args:
        z_a: float32[Z].
        z_b: float32[Z].
        t: position in [0, 1].

    Returns:
        float32[Z].

    Source: Shoemake 1985, "Animating rotation with quaternion curves".
    """
    a, b = z_a.astype(np.float64), z_b.astype(np.float64)
    length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if length_a == 0 or length_b == 0:
        return lerp(z_a, z_b, t)
    start, stop = a / length_a, b / length_b
    cosine = float(start @ stop)
    sideways = stop - cosine * start
    sine = float(np.linalg.norm(sideways))
    if sine < 1e-9:
        sideways = _perpendicular(start)
    angle = np.arctan2(sine, cosine)  # exact near 0 and pi, where arccos is not
    direction = np.cos(t * angle) * start + np.sin(t * angle) * sideways / np.linalg.norm(sideways)
    point: Array = (((1 - t) * length_a + t * length_b) * direction).astype(np.float32)
    return point


def _perpendicular(direction: Array64) -> Array64:
    """Find the vector, float64[Z], across a unit vector, float64[Z], that is nearest to the axis it leans on least."""
    axis = int(np.argmin(np.abs(direction)))
    across: Array64 = -direction[axis] * direction
    across[axis] += 1
    return across


def layer_resolutions(resolution_px: int) -> tuple[int, ...]:
    """List the resolution of each row of a w+ code; a row is named after the first convolution it feeds.

    Row 0 works at 4 px and rows 2j - 1 and 2j at 2^(j + 2) px, at most R.

    Args:
        resolution_px: R, a power of two.

    Returns:
        L = 2 log2(R) - 2 resolutions in px.
    """
    layer_count = 2 * (resolution_px.bit_length() - 1) - 2
    return tuple(min(2 ** (2 + (row + 1) // 2), resolution_px) for row in range(layer_count))


def role_of(resolution_px: int) -> Role:
    """Return the role of a layer of this resolution."""
    return next(role for role, (_, high_px) in ROLE_RANGES_PX.items() if resolution_px <= high_px)


def resolution_layers(layer_resolutions: Sequence[int], low_px: int, high_px: int) -> slice:
    """Find the rows of a code that work at ``low_px`` to ``high_px``, both included.

    Raises:
        ValueError: the model has no such layer.
    """
    rows = [row for row, resolution_px in enumerate(layer_resolutions) if low_px <= resolution_px <= high_px]
    if not rows:
        raise ValueError(
            f"no layer works at {low_px} to {high_px} px; "
            f"the layers of this model work at {min(layer_resolutions)} to {max(layer_resolutions)} px"
        )
    return slice(rows[0], rows[-1] + 1)
