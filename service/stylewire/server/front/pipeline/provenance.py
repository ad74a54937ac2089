"""What the images of a job are made of, in the words that files and ``stylewire inspect`` have for it.

Enough to make an image again, and no more: a photo's content is never in it, only the digest of its code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xxhash

from stylewire.latents import Array
from stylewire.server.engine_api.models import ModelInfo
from stylewire.server.front.pipeline import jobs

_CONST = jobs.NoiseMode.CONST
_PATH_CHARACTERS = 800  # characters; provenance cuts what is longer than 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Provenance:
    """Where the images of a job come from; a row is an image.

    Attributes:
        model: what draws them.
        latents: those that are drawn as they are; empty when images show what is between or mixed of latents.
        codes: float32[L, D] each; empty for a generator without styles.
        noise: pixel noise; None for a generator without styles.
    """

    model: ModelInfo
    latents: Sequence[jobs.Latent] = ()
    codes: Sequence[Array] = ()
    noise: jobs.Noise | None = None

    def describe(self, row: int) -> str:
        """Describe an image, such as ``seed 7, psi 0.7``; called in threads, since it may take digests."""
        latent = self.latents[row] if self.latents else None
        if latent is not None and latent.seed is not None and latent.model is self.model:
            words = f"seed {latent.seed}"
            if latent.label is not None:
                words += _label(latent.label)
            if latent.psi is not None:
                layers = latent.truncated_layers
                words += _truncation(latent.psi, layers.start, layers.stop, latent.model.manifest.layer_count)
        elif latent is not None and latent.z is not None and not self.codes:
            words = f"z {_digest(latent.z)}" + ("" if latent.label is None else _label(latent.label))
        else:
            words = f"code {_digest(self.codes[row])}"
        return words if self.noise is None else words + _noise(self.noise, row)


def describe_path(job: jobs.InterpolateJob) -> str:
    """Describe the frames of a video, such as ``60 frames, slerp, looped: seed 1; seed 2, psi 0.7``."""
    form = f"{job.frame_count} frames, {job.method.value}" + (", looped" if job.looped else "")
    keyframes = "; ".join(_keyframe(latent, job.model) for latent in job.keyframes)
    if len(keyframes) > _PATH_CHARACTERS:
        keyframes = f"{len(job.keyframes)} keyframes"
    noise = _noise(job.noise, 0) if job.model.styled else ""
    return f"{form}{noise}: {keyframes}"


def _keyframe(latent: jobs.Latent, model: ModelInfo) -> str:
    if latent.seed is not None:
        words = f"seed {latent.seed}"
    elif latent.z is not None:
        words = f"z {_digest(latent.z)}"
    else:
        words = "a photo" if latent.code is None else f"code {_digest(latent.code)}"
    if latent.label is not None:
        words += _label(latent.label)
    if latent.psi is not None:
        layers = latent.truncated_layers
        words += _truncation(latent.psi, layers.start, layers.stop, latent.model.manifest.layer_count)
    return words if latent.model is model else f"{words} of {latent.model.digest}"


def _digest(array: Array) -> str:
    """XXH3-128 of the numbers as little-endian float32, row after row; SHA-256 takes 12 times as long."""
    return "xxh3:" + xxhash.xxh3_128_hexdigest(np.ascontiguousarray(array, "<f4").data)


def _label(label: Array) -> str:
    (classes,) = label.nonzero()
    if len(classes) == 1 and label[classes[0]] == 1:
        return f", class {classes[0]}"
    return f", label {_digest(label)}"


@lru_cache(maxsize=256)  # the same from request to request, and numbers take long to write
def _truncation(psi: float, start: int | None, stop: int | None, count: int) -> str:
    start, stop, _ = slice(start, stop).indices(count)
    return f", psi {psi}" if stop - start == count else f", psi {psi} on layers {start}-{stop - 1}"


def _noise(noise: jobs.Noise, row: int) -> str:
    if noise.mode is _CONST and noise.strength == 1:
        return ""
    if noise.mode is jobs.NoiseMode.NONE:
        return ", no noise"
    seed = f" seed {noise.seed + row}" if noise.mode is jobs.NoiseMode.RANDOM else ""
    if noise.values is not None:
        seed = f" {_digest(noise.values)}"
    return f", noise{seed}" if noise.strength == 1 else f", noise{seed} times {noise.strength}"
