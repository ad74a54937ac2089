"""Paths through keyframes that are made of z: great circles, and all that a generator without styles can walk."""

import numpy as np

from stylewire import latents
from stylewire.keyframes import CubicPath, LinePath, segment
from stylewire.server.front.pipeline import jobs


class ZWalk:
    """The path of z through keyframes; labels go over linearly.

    Args:
        keyframes: all with a z, of one model.
        method: LERP and CUBIC go through the z themselves, SLERP keeps to the sphere that z are drawn from.
        looped: whether the first keyframe follows the last.
    """

    def __init__(self, keyframes: tuple[jobs.Latent, ...], method: jobs.Method, *, looped: bool) -> None:
        self._keyframes = keyframes
        z = np.stack([keyframe.z for keyframe in keyframes if keyframe.z is not None])  # [K, Z]
        self._z = z
        self._path: CubicPath | LinePath | None = None
        if method is not jobs.Method.SLERP:
            self._path = CubicPath.through(z, looped=looped) if method is jobs.Method.CUBIC else LinePath(z)

    def at(self, position: float) -> jobs.Latent:
        """Make the latent at a position in units of keyframes; without truncation, which is not of z."""
        start, stop, fraction = segment(position, len(self._keyframes))
        z = self._path.at(position) if self._path else latents.slerp(self._z[start], self._z[stop], fraction)
        one, other = self._keyframes[start].label, self._keyframes[stop].label
        label = None if one is None or other is None else latents.lerp(one, other, fraction)
        return jobs.Latent(model=self._keyframes[start].model, z=z, label=label)
