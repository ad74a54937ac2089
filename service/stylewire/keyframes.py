"""Paths through keyframes: where each frame lies, and the cubic spline of NVIDIA's gen_video. Pure numpy.

The shape legend is in ``latents.py``.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

import numpy as np

from stylewire.latents import Array, Array64, lerp

LOOP_WRAPS = 2
"""Turns that a looped cubic path takes before and after the one that is shown, as NVIDIA's gen_video does."""


class Easing(StrEnum):
    """How the position moves from one keyframe to the next while time t runs from 0 to 1."""

    LINEAR = "linear"
    """t: constant speed."""
    EASE_IN = "ease_in"
    """t^2: leaves each keyframe slowly."""
    EASE_OUT = "ease_out"
    """t (2 - t): reaches each keyframe slowly."""
    EASE_IN_OUT = "ease_in_out"
    """t^2 (3 - 2t): both."""

    def __call__(self, t: Array64) -> Array64:
        """Ease times, float64[F] in [0, 1]; returns float64[F] in [0, 1]."""
        match self:
            case Easing.LINEAR:
                return t
            case Easing.EASE_IN:
                return t**2
            case Easing.EASE_OUT:
                return t * (2 - t)
            case Easing.EASE_IN_OUT:
                return t**2 * (3 - 2 * t)


def frame_positions(keyframe_count: int, frame_count: int, looped: bool, easing: Easing = Easing.LINEAR) -> Array64:
    """Compute the positions of frames along the keyframes, in units of keyframes.

    Frame 0 is keyframe 0. The last frame is the last keyframe, or, looped, the one before keyframe 0 comes again.

    Args:
        keyframe_count: K.
        frame_count: F.
        looped: whether keyframe 0 follows the last one.
        easing: how a position moves between keyframes.

    Returns:
        float64[F], rising, in [0, K - 1] or, looped, in [0, K).
    """
    if looped:
        times = np.arange(frame_count) * keyframe_count / frame_count
    else:
        times = np.arange(frame_count) * (keyframe_count - 1) / max(frame_count - 1, 1)
    whole = np.floor(times)
    return whole + easing(times - whole)


class Segment(NamedTuple):
    """Where a position lies: ``fraction`` of the way from keyframe ``start`` to keyframe ``stop``."""

    start: int
    stop: int
    fraction: float


def segment(position: float, keyframe_count: int) -> Segment:
    """Find the two keyframes around a position, in units of keyframes; keyframe 0 follows the last one."""
    start = int(position)
    return Segment(start % keyframe_count, (start + 1) % keyframe_count, position - start)


@dataclass(frozen=True, slots=True, eq=False)
class LinePath:
    """Straight lines from keyframe to keyframe; the first one follows the last.

    Attributes:
        keyframes: float32[K, ...].
    """

    keyframes: Array

    def at(self, position: float) -> Array:
        """Evaluate the path at a position in units of keyframes.

        Returns:
            float32[...], the shape of one keyframe.
        """
        start, stop, fraction = segment(position, len(self.keyframes))
        return lerp(self.keyframes[start], self.keyframes[stop], fraction)


@dataclass(frozen=True, slots=True, eq=False)
class CubicPath:
    """A cubic spline through equally spaced knots, with not-a-knot ends.

    Attributes:
        knots: float64[n, ...], the values at 0, 1, ... n - 1.
        bends: float64[n, ...], the second derivatives there.
        offset: position of keyframe 0 among the knots.
    """

    knots: Array64
    bends: Array64
    offset: int

    @classmethod
    def through(cls, keyframes: Array, *, looped: bool) -> Self:
        """Compute the path through keyframes.

        Args:
            keyframes: float32[K, ...].
            looped: whether they repeat ``LOOP_WRAPS`` times on either side.

        Source: gen_video.py of NVIDIA's StyleGAN3 (``scipy.interpolate.interp1d(kind="cubic")`` over tiled keyframes).
        """
        knots = keyframes.astype(np.float64)
        wraps = LOOP_WRAPS if looped else 0
        knots = np.concatenate([knots] * (2 * wraps + 1))  # [K * (2 * wraps + 1), ...]
        return cls(knots, _bends(knots), wraps * len(keyframes))

    def at(self, position: float) -> Array:
        """Evaluate the path at a position in units of keyframes.

        Returns:
            float32[...], the shape of one keyframe.
        """
        if len(self.knots) == 1:
            return np.asarray(self.knots[0], np.float32)
        left = min(int(position) + self.offset, len(self.knots) - 2)
        b = position + self.offset - left
        a = 1 - b
        line = a * self.knots[left] + b * self.knots[left + 1]
        sag = (a**3 - a) * self.bends[left] + (b**3 - b) * self.bends[left + 1]
        return np.asarray(line + sag / 6, np.float32)


def _bends(knots: Array64) -> Array64:
    """Solve for the second derivatives of the spline, float64[n, ...], at its knots, float64[n, ...].

    Inside, m[i-1] + 4 m[i] + m[i+1] = 6 d[i], d being the second difference of the knots. Not-a-knot ends mean
    m[0] - 2 m[1] + m[2] = 0, which put into the first equation leaves m[1] = d[1], and likewise at the other end: the
    rest is a tridiagonal system. Two knots make a line and three their parabola.

    Source: de Boor, "A Practical Guide to Splines", chapter IV.
    """
    count = len(knots)
    bends = np.zeros_like(knots)
    if count < 3:
        return bends
    bends[1:-1] = knots[2:] - 2 * knots[1:-1] + knots[:-2]
    if count == 3:
        bends[[0, 2]] = bends[1]
        return bends
    inner = bends[2:-2]  # a view: what is solved here is solved there
    inner *= 6
    inner[:1] -= bends[1]
    inner[-1:] -= bends[-2]
    pivots = [4.0]
    for i in range(1, len(inner)):
        inner[i] -= inner[i - 1] / pivots[-1]
        pivots.append(4 - 1 / pivots[-1])
    inner[-1:] /= pivots[-1]
    for i in range(len(inner) - 2, -1, -1):
        inner[i] = (inner[i] - inner[i + 1]) / pivots[i]
    bends[0] = 2 * bends[1] - bends[2]
    bends[-1] = 2 * bends[-2] - bends[-3]
    return bends
