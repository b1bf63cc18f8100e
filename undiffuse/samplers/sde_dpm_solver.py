"""SDE-DPM-Solver++: the exponential integrator of the reverse SDE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler, along_path
from undiffuse.samplers.dpm_solver import DPMSolver
from undiffuse.samplers.levels import inner, level


@dataclass(frozen=True)
class SDEDPMSolver(Sampler):
    r"""SDE-DPM-Solver++ (1) and (2M), with eta for the share of noise.

    With h = log(alpha_s/sigma_s) - log(alpha_t/sigma_t) and r the step before over h,

        x_s = (sigma_s/sigma_t) e^{-eta h} x_t + alpha_s (1 - e^{-(1 + eta) h}) D
              + sigma_s sqrt(1 - e^{-2 eta h}) z,

    where D = x0_t, or (1 + 1/(2r)) x0_t - 1/(2r) x0_prev for 2M. It solves the reverse SDE
    (`sde.Reverse` with noise = sqrt(eta)) exactly if x0_hat is constant over the step. Order 1 with
    eta = 1 is ancestral sampling with \tilde\beta; eta = 0 is DPM-Solver++. A step from alpha = 0
    or to sigma = 0 is of order 1. In the loop z follows one Brownian path per sample.

    Raises:
        UndiffuseError: order is not 1 or 2, or eta outside [0, 10].

    Source: Lu et al. 2022 (arXiv 2211.01095), equations 18 and 19; for eta, "DPM-Solver++ (2M) SDE"
    of Crowson's k-diffusion, in its midpoint form.
    """

    name: ClassVar[str] = "sde-dpm-solver++"
    order: int = 2
    eta: float = 1.0

    def __post_init__(self) -> None:
        check(self.order in {1, 2}, self, "order", "1 or 2")
        check(finite(self.eta) and 0 <= self.eta <= 10, self, "eta", "in [0, 10]")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        if not self.stochastic:
            follow = DPMSolver(self.order).step
            return follow(denoiser, x, t, s, memory, noise)
        now, then = level(denoiser.schedule, float(t)), level(denoiser.schedule, float(s))
        x0_hat = denoiser(x, t)
        if then.sigma == 0:
            return then.alpha * x0_hat, None
        h = (then.log_snr - now.log_snr) / 2  # infinite from alpha = 0
        best = x0_hat
        if self.order == 2 and memory is not None:
            before, previous = memory
            best = x0_hat + (x0_hat - previous) * (h / before / 2)
        shrink = then.sigma / now.sigma * math.exp(-self.eta * h)
        mean = shrink * x + then.alpha * -math.expm1(-(1 + self.eta) * h) * best
        std = then.sigma * math.sqrt(-math.expm1(-2 * self.eta * h))
        memory = (h, x0_hat) if inner(now, then) else None
        return mean + std * along_path(noise, x, t, s), memory
