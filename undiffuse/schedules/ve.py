"""The variance-exploding schedule: no shrinking, the noise level grows by equal factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check_span
from undiffuse.schedules.base import Schedule, Time, as_time


@dataclass(frozen=True)
class VE(Schedule):
    """alpha = 1, sigma(t) = sigma_min (sigma_max / sigma_min)^t: log sigma is linear in t.

    The SDE is dx = g dW with g(t) = sigma(t) sqrt(2 log(sigma_max / sigma_min)). p_0 is the data
    smoothed by sigma_min > 0. Levels are in the units of the data.

    Raises:
        UndiffuseError: unless 0 < sigma_min < sigma_max, finite.

    Source: Song et al. 2021 (arXiv 2011.13456), appendix C; Song & Ermon 2019 (arXiv 1907.05600)
    for the geometric levels.

    >>> VE(0.01, 100.0).sigma(0.5).item()
    1.0
    """

    name: ClassVar[str] = "ve"
    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        check_span(self, "sigma_min", "sigma_max")

    def alpha(self, t: Time) -> Tensor:
        return torch.ones_like(as_time(t))

    def sigma(self, t: Time) -> Tensor:
        t = as_time(t)
        sigma: Tensor = torch.pow(self.sigma_min, 1 - t) * torch.pow(self.sigma_max, t)
        return sigma

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return ((-as_time(log_snr) / 2 - low) / (high - low)).clamp(0, 1)
