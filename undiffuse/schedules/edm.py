"""The schedule of EDM: no shrinking, noise levels spaced by a power rho."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, check_span, finite
from undiffuse.schedules.base import Schedule, Time, as_time


@dataclass(frozen=True)
class EDM(Schedule):
    """alpha = 1, sigma(t) = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho.

    p_0 is the data smoothed by sigma_min > 0. Uniform steps in t are Karras' noise levels.

    Raises:
        UndiffuseError: unless 0 < sigma_min < sigma_max and rho > 0, finite.

    Source: Karras et al. 2022 (arXiv 2206.00364), equation 5.

    >>> EDM(sigma_max=80.0).sigma(1.0).item()
    80.0
    """

    name: ClassVar[str] = "edm"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        check_span(self, "sigma_min", "sigma_max")
        check(finite(self.rho) and self.rho > 0, self, "rho", "positive")

    def _roots(self) -> tuple[float, float]:
        return float(self.sigma_min ** (1 / self.rho)), float(self.sigma_max ** (1 / self.rho))

    def alpha(self, t: Time) -> Tensor:
        return torch.ones_like(as_time(t))

    def sigma(self, t: Time) -> Tensor:
        t = as_time(t)
        low, high = self._roots()
        smooth = torch.pow((1 - t) * low + t * high, self.rho)
        exact = torch.where(t == 0, self.sigma_min, torch.where(t == 1, self.sigma_max, smooth))
        return smooth + (exact - smooth).detach()  # both ends to the bit, and with their slope

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        low, high = self._roots()
        root: Tensor = torch.exp(-as_time(log_snr) / (2 * self.rho))  # sigma^(1/rho)
        return ((root - low) / (high - low)).clamp(0, 1)
