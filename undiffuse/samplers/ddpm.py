"""Ancestral sampling, the reverse chain of DDPM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler


@dataclass(frozen=True)
class DDPM(Sampler):
    r"""x_s ~ N(mu(x_t, x0_hat), std^2), mu the mean of q(x_s | x_t, x_0 = x0_hat).

    std^2 = \tilde\beta^(1 - variance) beta^variance with beta = sigma_{t|s}^2 and \tilde\beta =
    beta sigma_s^2 / sigma_t^2. `variance` 0 is \tilde\beta, optimal if the data is one point
    (lecture 000); 1 is beta, optimal for N(0, I) data (lecture 002, algorithm 2); values between
    interpolate the logarithm. No noise enters in the step to sigma = 0.

    Exact for x_0 ~ q(x_0 | x_t); with the point estimate x0_hat the law of x_s is approximate at
    finite step size.

    Raises:
        UndiffuseError: variance outside [0, 1].

    Source: Ho et al. 2020 (arXiv 2006.11239); Nichol & Dhariwal 2021 (arXiv 2102.09672).
    """

    name: ClassVar[str] = "ddpm"
    grid: ClassVar[str] = "uniform"
    variance: float = 0.0

    def __post_init__(self) -> None:
        check(finite(self.variance) and 0 <= self.variance <= 1, self, "variance", "in [0, 1]")

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule = denoiser.schedule
        mean, _ = process.posterior(schedule, x, denoiser(x, t), t, s)
        shrink = schedule.sigma(s) / schedule.sigma(t)
        if bool(shrink == 0):
            return mean, None
        std = process.transition_std(schedule, s, t) * torch.pow(shrink, 1 - self.variance)
        return mean + over(std, x) * noise(x), None
