"""Gradient estimation: sampling as descent of the distance to the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.levels import first_order, inner, level, noise_of


@dataclass(frozen=True)
class GradientEstimation(Sampler):
    r"""y_s = y_t + (rho_p - rho_t) eps_bar + sqrt(rho_s^2 - rho_p^2) z in y = x / alpha.

    With rho = sigma / alpha, eps_bar = gamma eps_hat_t + (1 - gamma) eps_hat_prev and
    rho_s = rho_t^mu rho_p^(1 - mu). gamma = 1 with mu = 0 is DDIM, and with mu = 1/2 ancestral
    sampling with variance \tilde\beta. gamma = 2 estimates the gradient of the squared distance to
    the data from its last two values. First order; gamma = 3/2 is of second order where the steps
    are equal in rho. A step to sigma = 0 is x0_hat; no noise enters there.

    Raises:
        UndiffuseError: gamma < 1, or mu outside [0, 1).

    Source: Permenter & Yuan 2024 (arXiv 2306.04848), algorithm 2; lecture 003.
    """

    name: ClassVar[str] = "gradient-estimation"
    gamma: float = 2.0
    mu: float = 0.0

    def __post_init__(self) -> None:
        check(finite(self.gamma) and self.gamma >= 1, self, "gamma", "at least 1")
        check(finite(self.mu) and 0 <= self.mu < 1, self, "mu", "in [0, 1)")

    @property
    def stochastic(self) -> bool:
        return self.mu > 0

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        now, then = level(denoiser.schedule, float(t)), level(denoiser.schedule, float(s))
        x0_hat = denoiser(x, t)
        if not inner(now, then) and (not self.stochastic or then.sigma == 0):
            return first_order(x, x0_hat, now, then), None
        eps_hat = noise_of(x, x0_hat, now)
        # alpha_s rho_p, with rho_p = rho_s (rho_s / rho_t)^(mu / (1 - mu))
        kept = then.sigma * (then.ratio / now.ratio) ** (self.mu / (1 - self.mu))
        x_s = then.alpha * x0_hat + kept * eps_hat
        if memory is not None:
            change = (self.gamma - 1) * (kept - then.alpha * now.ratio)
            x_s = x_s + change * (eps_hat - memory)
        if self.stochastic:
            x_s = x_s + (then.sigma**2 - kept**2) ** 0.5 * noise(x)
        return x_s, eps_hat if now.alpha else None
