"""Moves a code, and on request the noise maps, until the generator draws a given image.

Source: Karras et al. 2020 (StyleGAN2), appendix D: Adam, the schedule of the learning rate, the noise on the code and
the care for the noise maps are theirs; the loss is that of ``losses.py``. Shape legend: L layers, D w_dim, C channels,
R resolution, P noise values of all layers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from stylewire.latents import Array
from stylewire.server.engine.projection import losses
from stylewire.server.engine.projection.networks import Network
from stylewire.server.engine.projection.tasks import Task
from stylewire.server.engine_api.projection import Found, Progress

_LEARNING_RATE = 0.05
"""Of a value of the code, in units of its standard deviation."""
_RAMP_UP, _RAMP_DOWN = 0.05, 0.25
"""Shares of the steps in which the rate rises from 0, linearly, and falls to 0, by a cosine."""
_BETAS = (0.9, 0.999)
_GRADIENT_WEIGHT = 1.0
_SPREAD_WEIGHT = 3e-3
"""At ten times as much the code stays among those that the mapping network makes, and the image is a third worse."""
_NOISE_WEIGHT = 1e5
_WANDER, _WANDER_SHARE = 0.05, 0.75
"""Standard deviation of the noise on a code that begins at the mean, in units of the code's own, and the share of the
steps in which it falls to 0: it keeps the code from the nearest poor minimum. An encoder's answer is past that."""


@dataclass(slots=True)
class _Best:
    """The best code yet: its loss, float32[L, D], and the noise float32[1, P] if that is optimized."""

    loss: float = math.inf
    code: Tensor = field(default_factory=lambda: torch.zeros(0))
    noise: Tensor | None = None


class Optimizer:
    """One projection.

    Args:
        synthesis: w+ code -> image float32[1, C, R, R].
        task: what is wanted.
        spread: standard deviation of a value of w.
        device: where it runs.
    """

    def __init__(self, synthesis: Network, task: Task, spread: float, device: torch.device) -> None:
        self._synthesis, self._task, self._device = synthesis, task, device
        self._spread = spread
        self._random = torch.Generator().manual_seed(task.seed)
        self._start, self._mean = self._tensor(task.start), self._tensor(task.mean)
        self._target = losses.pyramid(self._tensor(task.target)[None])
        self._offset = torch.zeros_like(self._start, requires_grad=True)  # in units of the spread
        self._maps = [self._draw(1, 1, side, side).requires_grad_() for side in task.noise_sides_px]
        self._best = _Best()

    def steps(self) -> Iterator[Progress]:
        """Make one step after the other; progress 0 is of the start, and whoever stops there makes no step."""
        count = self._task.step_count
        adam = torch.optim.Adam([self._offset, *self._maps], betas=_BETAS)
        for step in range(count + 1):
            last = step == count
            with torch.set_grad_enabled(not last):
                total, progress = self._measure(step, wander=self._wander(step))
            yield progress
            if not last:
                for group in adam.param_groups:
                    group["lr"] = _LEARNING_RATE * rate(step, count)
                adam.zero_grad()
                total.backward()  # type: ignore[no-untyped-call]  # torch ships no types for it
                adam.step()
                self._normalize_noise()

    def found(self) -> Found:
        """Return the code with the least loss of all steps."""
        noise = None if self._best.noise is None else _array(self._best.noise[0])
        return Found(code=_array(self._best.code), noise=noise)

    def _measure(self, step: int, wander: float) -> tuple[Tensor, Progress]:
        """Draw the image, and measure it; the loss is float32[], and the best code is kept."""
        code = self._start + self._offset * self._spread
        seen = code + self._draw(*code.shape) * (wander * self._spread) if wander else code
        noise = torch.cat([each.flatten() for each in self._maps])[None] if self._maps else None  # [1, P]
        image = self._image(seen, noise)  # [1, C, R, R]
        parts = losses.compare(losses.pyramid(image), self._target)
        spread = losses.code_spread(code, self._mean, self._spread)
        drawn = parts.pixel + _GRADIENT_WEIGHT * parts.gradient + _SPREAD_WEIGHT * spread
        correlation = losses.noise_correlation(self._maps) if self._maps else None
        total = drawn if correlation is None else drawn + _NOISE_WEIGHT * correlation
        if not wander and float(drawn.detach()) < self._best.loss:
            self._best = _Best(
                float(drawn.detach()), code.detach().clone(), None if noise is None else noise.detach().clone()
            )
        difference = (image.detach().clamp(-1, 1) - self._target[0]).square().mean()
        return total, Progress(
            step=step,
            loss=float(total.detach()),
            pixel=float(parts.pixel.detach()),
            gradient=float(parts.gradient.detach()),
            spread=float(spread.detach()),
            correlation=0.0 if correlation is None else float(correlation.detach()),
            distortion=float(difference),
            code=_array(code.detach()) if self._task.shows(step) else None,
            noise=_array(noise[0].detach()) if noise is not None and self._task.shows(step) else None,
        )

    def _image(self, code: Tensor, noise: Tensor | None) -> Tensor:
        """Draw float32[1, C, R, R]; maps that are optimized stand in the place of the stored ones."""
        inputs = {"w_plus": code[None]}
        if "noise" in self._synthesis.input_names:
            inputs["noise_strength"] = torch.full((1,), float(noise is None), device=self._device)
            inputs["noise"] = torch.zeros(1, 1, device=self._device) if noise is None else noise
        return self._synthesis.run(inputs)

    def _wander(self, step: int) -> float:
        if self._task.encoded:
            return 0.0
        return float(_WANDER * max(0.0, 1 - step / self._task.step_count / _WANDER_SHARE) ** 2)

    def _normalize_noise(self) -> None:
        """Keep every map at mean 0 and variance 1, as those are that the generator was trained with."""
        with torch.no_grad():
            for each in self._maps:
                each.sub_(each.mean())
                each.mul_(each.square().mean().rsqrt())

    def _draw(self, *shape: int) -> Tensor:
        """Draw normal numbers of a shape, the same on every device."""
        return torch.randn(shape, generator=self._random).to(self._device)

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def rate(step: int, count: int) -> float:
    """Return which share of the learning rate a step has, of ``count`` in all, in [0, 1].

    Source: as for the module.
    """
    falling = min(1.0, (1 - step / count) / _RAMP_DOWN)
    return (0.5 - 0.5 * math.cos(math.pi * falling)) * min(1.0, (step + 1) / max(1.0, count * _RAMP_UP))


def measure_spread(mapping: Network, mean: Array, z_dim: int, label_dim: int, device: torch.device) -> float:
    """Measure the standard deviation of a value of w around the mean float32[D], over ten thousand seeded z."""
    random, draws = torch.Generator().manual_seed(0), []
    for _ in range(10):
        inputs = {"z": torch.randn((1000, z_dim), generator=random).to(device)}
        if label_dim:
            classes = torch.randint(label_dim, (1000,), generator=random)
            inputs["label"] = torch.eye(label_dim)[classes].to(device)
        with torch.no_grad():
            w = mapping.run(inputs)
        draws.append((w - torch.from_numpy(mean).to(device)).square().mean())
    return float(torch.stack(draws).mean().sqrt())


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.cpu().numpy(), np.float32)
