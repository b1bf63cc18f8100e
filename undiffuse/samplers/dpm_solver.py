"""DPM-Solver++: exponential integrators in the data estimate, multistep and singlestep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.levels import first_order, inner, level
from undiffuse.samplers.multistep import Choices, Multistep


@dataclass(frozen=True)
class DPMSolver(Multistep):
    r"""DPM-Solver++ (2M) and (3M): x_s / sigma_s = x_t / sigma_t + int P(x0_hat) d(alpha/sigma).

    With h = log(alpha_s/sigma_s) - log(alpha_t/sigma_t) and r the step before over h, 2M is

        x_s = (sigma_s/sigma_t) x_t - alpha_s (e^{-h} - 1) [(1 + 1/(2r)) x0_t - 1/(2r) x0_prev],

    where 1/2 stands for the mean of the line over the step. 3M integrates the parabola through
    three values exactly. (The authors' code has half of that parabola's second derivative, which
    makes it a rule of second order.) Order p with exact values to remember, min(p, 2) from a cold
    start.

    Raises:
        UndiffuseError: order outside 1 ... 3.

    Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2 and its appendix B.
    """

    name: ClassVar[str] = "dpm-solver++"
    order: int = 2

    def __post_init__(self) -> None:
        check(type(self.order) is int and self.order in {1, 2, 3}, self, "order", "1, 2 or 3")

    @property
    def choices(self) -> Choices:
        return Choices("data", "log-snr", "exact" if self.order == 3 else "bh2", self.order)


@dataclass(frozen=True)
class DPMSolverSinglestep(Sampler):
    r"""DPM-Solver++ (2S): one look ahead, to the part r of the step in log-SNR.

    u   = (sigma_m/sigma_t) x_t - alpha_m (e^{-rh} - 1) x0_hat(x_t, t)
    x_s = (sigma_s/sigma_t) x_t - alpha_s (e^{-h} - 1) [(1 - 1/(2r)) x0_hat(x_t, t)
                                                         + 1/(2r) x0_hat(u, m)]

    Second order, two evaluations a step. A step from or to alpha = 0 or to sigma = 0 has no point
    in between and is first order, with one.

    Raises:
        UndiffuseError: r outside (0, 1].

    Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 1.
    """

    name: ClassVar[str] = "dpm-solver++2s"
    r: float = 0.5

    def __post_init__(self) -> None:
        check(finite(self.r) and 0 < self.r <= 1, self, "r", "in (0, 1]")

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule = denoiser.schedule
        now, then = level(schedule, float(t)), level(schedule, float(s))
        x0_hat = denoiser(x, t)
        if not inner(now, then):
            return first_order(x, x0_hat, now, then), None
        h = (then.log_snr - now.log_snr) / 2
        m = schedule.t_from_log_snr(now.log_snr + 2 * self.r * h)
        middle = level(schedule, float(m))
        u = first_order(x, x0_hat, now, middle)
        mixed = (1 - 0.5 / self.r) * x0_hat + 0.5 / self.r * denoiser(u, m)
        shrink = then.sigma / now.sigma
        return shrink * x - then.alpha * math.expm1(-h) * mixed, None
