r"""F is the mean of the next step of a discrete chain.

The mean of q(x_s | x_t, x_0) is affine in x_t and x_0, so predicting it is one more affine map,

    mu = on_x_t x_t + on_x_0 x_0,    x0_hat = (mu - on_x_t x_t) / on_x_0,    s = t - 1 / T,

but one that belongs to a chain: alone among the predictions it must know the step that follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse import process
from undiffuse.catalogue import check
from undiffuse.predictions.base import Prediction
from undiffuse.schedules.discrete import Discrete


@dataclass(frozen=True)
class Mean(Prediction):
    r"""F = mu, the mean of q(x_{k-1} | x_k, x_0) in the chain `schedule` with T steps.

    With on_x_t = sqrt(alpha_k) (1 - \bar\alpha_{k-1}) / (1 - \bar\alpha_k) and
    on_x_0 = sqrt(\bar\alpha_{k-1}) beta_k / (1 - \bar\alpha_k):

    skip -on_x_t / on_x_0,  out 1 / on_x_0,  target mu,  gain sqrt(SNR) / on_x_0.

    In terms of the noise, mu = (x_k - beta_k / sqrt(1 - \bar\alpha_k) eps) / sqrt(alpha_k). At the
    first step mu = x_0. Where a time lies between two steps of the chain, s is one step's length
    before it. x_t of any other schedule is brought to the chain's scale and log-SNR (beyond its
    noisy end: to its last step), so the map is exact there too.

    Source: Ho et al. 2020 (arXiv 2006.11239), equation 8; lectures 000, 002, 004.

    >>> half = torch.tensor(0.5, dtype=torch.float64).sqrt()
    >>> Mean(schedule=Discrete((0.5, 0.5))).out(half, half).item()  # the first step: mu = x_0
    1.0
    """

    name: ClassVar[str] = "mean"
    schedule: Discrete = field(default_factory=Discrete.linear)  # DDPM's 1000 steps

    def __post_init__(self) -> None:
        super().__post_init__()
        check(isinstance(self.schedule, Discrete), self, "schedule", "a discrete schedule")

    def _factors(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """on_x_t and on_x_0 for an x_t on the scale of the chain."""
        step = 1 / self.schedule.steps
        t = self.schedule.t_from_log_snr(log_snr).clamp(min=step)  # within it the target is x_0
        return process.posterior_factors(self.schedule, t, t - step)[:2]

    def _row(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """on_x_t and on_x_0 for x_t = alpha x_0 + sigma eps."""
        on_x_t, on_x_0 = self._factors(2 * (alpha.log() - sigma.log()))
        return on_x_t / torch.hypot(alpha, sigma), on_x_0

    def skip(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        on_x_t, on_x_0 = self._row(alpha, sigma)
        return -on_x_t / on_x_0

    def out(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1 / self._row(alpha, sigma)[1]

    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        on_x_t, on_x_0 = self._row(alpha.double(), sigma.double())
        return on_x_t.to(x_0) * (alpha * x_0 + sigma * noise) + on_x_0.to(x_0) * x_0

    def log_gain(self, log_snr: Tensor, sigma: Tensor) -> Tensor:
        return log_snr / 2 - self._factors(log_snr)[1].log()
