"""What the pictures of a job are made of, in the words that files and ``stylewire inspect`` have for it.

Enough to make a picture again, and no more: a photo's content is never told, only the digest of its code.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stylewire.latents import Array
from stylewire.server import jobs
from stylewire.server.registry import Model


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origins:
    """Where the pictures of a job come from; a row is a picture.

    Attributes:
        model: what draws them.
        latents: those that are drawn as they are; empty when pictures show what is between or mixed of latents.
        codes: float32[L, D] each; empty for a generator without styles.
        noise: pixel noise; None for a generator without styles.
    """

    model: Model
    latents: Sequence[jobs.Latent] = ()
    codes: Sequence[Array] = ()
    noise: jobs.Noise | None = None

    def describe(self, row: int) -> str:
        """Say what a picture is made of, such as ``seed 7, psi 0.7``; called in threads, since it may take digests."""
        latent = self.latents[row] if self.latents else None
        noise = _noise(self.noise, row)
        if latent and latent.seed is not None and latent.model is self.model:
            return f"seed {latent.seed}{_label(latent)}{_truncation(latent)}{noise}"
        if latent and latent.z is not None and not self.codes:
            return f"z {_digest(latent.z)}{_label(latent)}"
        return f"code {_digest(self.codes[row])}{noise}"


def _digest(array: Array) -> str:
    """SHA-256 of the numbers as little-endian float32, row after row."""
    return "sha256:" + hashlib.sha256(np.ascontiguousarray(array, "<f4").data).hexdigest()


def _label(latent: jobs.Latent) -> str:
    if latent.label is None:
        return ""
    (classes,) = latent.label.nonzero()
    if len(classes) == 1 and latent.label[classes[0]] == 1:
        return f", class {classes[0]}"
    return f", label {_digest(latent.label)}"


def _truncation(latent: jobs.Latent) -> str:
    if latent.psi is None:
        return ""
    count = latent.model.manifest.layer_count
    start, stop, _ = latent.truncated_layers.indices(count)
    return f", psi {latent.psi}" if stop - start == count else f", psi {latent.psi} on layers {start}-{stop - 1}"


def _noise(noise: jobs.Noise | None, row: int) -> str:
    if noise is None or (noise.mode is jobs.NoiseMode.CONST and noise.strength == 1):
        return ""
    if noise.mode is jobs.NoiseMode.NONE:
        return ", no noise"
    seed = f" seed {noise.seed + row}" if noise.mode is jobs.NoiseMode.RANDOM else ""
    return f", noise{seed}" if noise.strength == 1 else f", noise{seed} times {noise.strength}"
