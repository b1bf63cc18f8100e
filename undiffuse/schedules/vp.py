"""The variance-preserving schedule with linear beta(t): the continuous form of DDPM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from undiffuse.catalogue import check, finite
from undiffuse.schedules.base import Schedule, Time, as_time


@dataclass(frozen=True)
class VP(Schedule):
    r"""alpha(t)^2 = exp(-B(t)), sigma(t)^2 = 1 - exp(-B(t)), with B(t) = int_0^t beta(u) du.

    beta(t) = beta_min + t (beta_max - beta_min) is the rate of dx = -1/2 beta x dt + sqrt(beta) dW
    (the lectures' printed drift -beta x lacks the factor 1/2). With (0.1, 20) it is the limit of
    DDPM's 1000 steps from 1e-4 to 0.02. The exact one-step factor over [s, t] is
    exp(-int_s^t beta) = (alpha(t) / alpha(s))^2.

    Raises:
        UndiffuseError: unless 0 <= beta_min <= beta_max, beta_max > 0, finite.

    Source: Song et al. 2021 (arXiv 2011.13456); lectures 000, 002, 004.

    >>> VP().alpha(0.0).item(), VP().sigma(0.0).item()
    (1.0, 0.0)
    """

    name: ClassVar[str] = "vp"
    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        check(finite(self.beta_min) and self.beta_min >= 0, self, "beta_min", "at least 0")
        check(
            finite(self.beta_max) and self.beta_max >= self.beta_min and self.beta_max > 0,
            self,
            "beta_max",
            "positive and at least beta_min",
        )

    def beta(self, t: Time) -> Tensor:
        """beta(t), the rate of noising per unit of time."""
        return self.beta_min + as_time(t) * (self.beta_max - self.beta_min)

    def integral(self, t: Time) -> Tensor:
        """B(t) = int_0^t beta(u) du = -log alpha(t)^2."""
        t = as_time(t)
        return t * (self.beta_min + t * ((self.beta_max - self.beta_min) / 2))

    def alpha(self, t: Time) -> Tensor:
        return torch.exp(-self.integral(t) / 2)

    def sigma(self, t: Time) -> Tensor:
        return torch.sqrt(-torch.expm1(-self.integral(t)))

    def log_snr(self, t: Time) -> Tensor:
        return -torch.expm1(self.integral(t)).log()

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        b = softplus(-as_time(log_snr), threshold=700)  # B = log(1 + 1/SNR)
        b = b.clamp(max=float(self.integral(1.0)))
        slope = self.beta_max - self.beta_min
        t = 2 * b / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * b))
        return torch.where(b == 0, 0.0, t).clamp(0, 1)
