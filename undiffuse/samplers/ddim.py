"""DDIM: from the deterministic flow (eta = 0) to ancestral sampling (eta = 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.levels import first_order, level, noise_of


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
        now, then = level(denoiser.schedule, float(t)), level(denoiser.schedule, float(s))
        x0_hat = denoiser(x, t)
        if not self.stochastic:
            return first_order(x, x0_hat, now, then), None
        share = -math.expm1(min(now.log_snr - then.log_snr, 0))  # of \tilde\beta in sigma_s^2
        std = self.eta * then.sigma * math.sqrt(share)
        kept = math.sqrt(max(then.sigma**2 - std**2, 0))
        x_s = then.alpha * x0_hat + kept * noise_of(x, x0_hat, now)
        return x_s + std * noise(x), None
