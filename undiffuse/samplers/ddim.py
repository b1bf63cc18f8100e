"""DDIM: from the deterministic flow (eta = 0) to ancestral sampling (eta = 1)."""

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
class DDIM(Sampler):
    r"""x_s = alpha_s x0_hat + sqrt(sigma_s^2 - std^2) eps_hat + std z, std^2 = eta^2 \tilde\beta.

    eta = 0 is the first-order exponential step of the probability-flow ODE, eta = 1 is ancestral
    sampling with variance \tilde\beta.

    Raises:
        UndiffuseError: eta outside [0, 1].

    Source: Song et al. 2021 (arXiv 2010.02502), equation 12; lectures 001, 003, 004.
    """

    name: ClassVar[str] = "ddim"
    eta: float = 0.0

    def __post_init__(self) -> None:
        check(finite(self.eta) and 0 <= self.eta <= 1, self, "eta", "in [0, 1]")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule = denoiser.schedule
        alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
        alpha_s, sigma_s = schedule.alpha(s), schedule.sigma(s)
        x0_hat = denoiser(x, t)
        eps_hat = (x - over(alpha_t, x) * x0_hat) / over(sigma_t, x)
        if not self.stochastic:
            return over(alpha_s, x) * x0_hat + over(sigma_s, x) * eps_hat, None
        std = self.eta * process.transition_std(schedule, s, t) * sigma_s / sigma_t
        kept = torch.sqrt((sigma_s**2 - std**2).clamp(min=0))
        x_s = over(alpha_s, x) * x0_hat + over(kept, x) * eps_hat
        return x_s + over(std, x) * noise(x), None
