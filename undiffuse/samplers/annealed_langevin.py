"""Annealed Langevin dynamics, the sampler of NCSN: Langevin while the noise level falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler


@dataclass(frozen=True)
class AnnealedLangevin(Sampler):
    r"""At each noise level rho = sigma / alpha, `inner` Langevin steps of size h rho^2.

    In y = x / alpha, where the score of the noisy data is (x0_hat - y) / rho^2, a step is

        y <- y + (h/2) (x0_hat(y) - y) + sqrt(h) rho z.

    A step from t to s carries y from one level to the next as it is and then runs the chain at the
    level of s; from alpha_t = 0, where y does not exist, it carries the pure noise. The step to
    sigma = 0 is the denoising x0_hat. h is the paper's epsilon / sigma_L^2: its epsilon = 2e-5 with
    sigma_L = 0.01 is h = 0.2. Around a point of data the chain settles at rho^2 / (1 - h/4), not
    rho^2: a small h is faithful, a large one fast. A step costs `inner` evaluations.

    Raises:
        UndiffuseError: step_size outside (0, 4), where the chain is stable, or inner not a whole
            number >= 1.

    Source: Song & Ermon 2019 (arXiv 1907.05600), algorithm 1; Jolicoeur-Martineau et al. 2021
    (arXiv 2009.05475) for the denoising at the end; lecture 004.
    """

    name: ClassVar[str] = "annealed-langevin"
    step_size: float = 0.2
    inner: int = 5

    def __post_init__(self) -> None:
        check(finite(self.step_size) and 0 < self.step_size < 4, self, "step_size", "in (0, 4)")
        whole = finite(self.inner) and self.inner % 1 == 0
        check(whole and self.inner >= 1, self, "inner", "a whole number, at least 1")

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule = denoiser.schedule
        alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
        alpha_s, sigma_s = schedule.alpha(s), schedule.sigma(s)
        if bool(sigma_s == 0):
            return over(alpha_s, x) * denoiser(x, t), None
        x = over(alpha_s / alpha_t if bool(alpha_t > 0) else sigma_s / sigma_t, x) * x
        for _ in range(self.inner):  # in x = alpha_s y
            pull = over(alpha_s, x) * denoiser(x, s) - x
            kick = over(math.sqrt(self.step_size) * sigma_s, x) * noise(x)
            x = x + self.step_size / 2 * pull + kick
        return x, None
