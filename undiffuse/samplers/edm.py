"""EDM's stochastic sampler: raise the noise a little, then follow the flow past where it was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.levels import level
from undiffuse.samplers.runge_kutta import Heun

follow = Heun().step  # the deterministic half of a step
LARGEST = math.sqrt(2) - 1  # no step adds more noise than there was


@dataclass(frozen=True)
class EDM(Sampler):
    r"""A churn from t up to t', where the noise is (1 + gamma) times larger, then Heun to s.

    In y = x / alpha and rho = sigma / alpha, with rho' = (1 + gamma) rho_t,

        y' = y_t + s_noise sqrt(rho'^2 - rho_t^2) z,    y_s = Heun(y', rho' -> rho_s),

        gamma = min(s_churn (t - s), sqrt 2 - 1)  if s_tmin <= rho_t <= s_tmax, otherwise 0.

    The paper's gamma has 1 / N, the share of one of N steps, in place of t - s: on the uniform grid
    that is the same, and a step need not know how many there are. As the steps shrink the noise
    added per unit of time stays finite, and the rule converges to an SDE with the marginals p_t.
    s_churn = 0 is Heun's rule. t' stays within the schedule.

    Raises:
        UndiffuseError: s_churn or s_noise is negative, or not 0 <= s_tmin <= s_tmax.

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 2; the defaults are table 5's for
    ImageNet-64.
    """

    name: ClassVar[str] = "edm"
    grid: ClassVar[str] = "karras"
    s_churn: float = 40.0
    s_tmin: float = 0.05
    s_tmax: float = 50.0
    s_noise: float = 1.003

    def __post_init__(self) -> None:
        for field in ("s_churn", "s_tmin", "s_noise"):
            value = getattr(self, field)
            check(finite(value) and value >= 0, self, field, "a number >= 0")
        fine = finite(self.s_tmax) and self.s_tmax >= self.s_tmin
        check(fine, self, "s_tmax", "a number, at least s_tmin")

    @property
    def stochastic(self) -> bool:
        return self.s_churn > 0

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule = denoiser.schedule
        now = level(schedule, float(t))
        if self.stochastic and self.s_tmin <= now.ratio <= self.s_tmax:
            gamma = min(self.s_churn * float(t - s), LARGEST)
            t = schedule.t_from_log_snr(now.log_snr - 2 * math.log1p(gamma))
            raised = level(schedule, float(t))
            added = math.sqrt(max(raised.ratio**2 - now.ratio**2, 0.0))
            x = raised.alpha * (x / now.alpha + self.s_noise * added * noise(x))
        return follow(denoiser, x, t, s, None, noise)
