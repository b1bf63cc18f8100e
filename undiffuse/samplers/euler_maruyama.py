"""The plain scheme for the reverse SDE: what the equation says, one short step at a time."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse import process
from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler, along_path
from undiffuse.samplers.levels import first_order, inner, level, noise_of
from undiffuse.schedules.base import Schedule


@functools.lru_cache(maxsize=8192)  # the times of many long runs
def rates(schedule: Schedule, t: float) -> tuple[float, float]:
    """d log alpha / dt and g(t), the drift per x and the diffusion of the forward SDE."""
    unit = torch.ones((), dtype=torch.float64)
    return float(process.drift(schedule, unit, t)), float(process.diffusion(schedule, t))


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    r"""x_s = x_t + [f - (1 + noise^2)/2 g^2 score] (s - t) + noise g sqrt(t - s) z.

    What `sde.simulate` does with `sde.Reverse`: noise = 1 is Anderson's SDE, 0 the probability-flow
    ODE. Weak order 1, and strong order 1, since g depends on t alone: in the loop the noise is one
    Brownian path per sample, the same for any number of steps, so more steps converge to one
    sample. It needs many: with few, the first ones overshoot where g is large. A step from
    alpha = 0 or to sigma = 0, where the drift is not finite, is the first-order step in x0_hat.

    Raises:
        UndiffuseError: noise is negative or not finite.

    Source: Maruyama 1955; Song et al. 2021 (arXiv 2011.13456), equation 6; lecture 001.
    """

    name: ClassVar[str] = "euler-maruyama"
    grid: ClassVar[str] = "uniform"
    noise: float = 1.0

    def __post_init__(self) -> None:
        check(finite(self.noise) and self.noise >= 0, self, "noise", "a number >= 0")

    @property
    def stochastic(self) -> bool:
        return self.noise > 0

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule = denoiser.schedule
        now, then = level(schedule, float(t)), level(schedule, float(s))
        x0_hat = denoiser(x, t)
        if not inner(now, then):
            return first_order(x, x0_hat, now, then), None
        shrink, g = rates(schedule, float(t))
        pull = (1 + self.noise**2) / 2 * g**2 / now.sigma  # of eps_hat = -sigma score
        dt = float(s - t)
        moved = (1 + shrink * dt) * x + pull * dt * noise_of(x, x0_hat, now)
        if self.stochastic:
            moved = moved + self.noise * g * math.sqrt(-dt) * along_path(noise, x, t, s)
        return moved, None
