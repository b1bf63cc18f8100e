"""log(sigma / alpha) normal: training where the denoiser can learn something."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.objectives.times.base import Times
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class LogNormal(Times):
    """log(sigma/alpha) ~ N(mean, std^2), as t under the schedule; cut to the schedule's ends.

    Source: Karras et al. 2022 (arXiv 2206.00364), table 1 (mean -1.2, std 1.2).
    """

    name: ClassVar[str] = "log-normal"
    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        check(finite(self.mean), self, "mean", "a finite number")
        check(finite(self.std) and self.std > 0, self, "std", "positive")

    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        log_noise = self.mean + self.std * torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
        return schedule.t_from_log_snr(-2 * log_noise)

    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        """Between the schedule's ends; what lies beyond them is drawn at the ends themselves."""
        z = (-schedule.log_snr(t) / 2 - self.mean) / self.std
        normal = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        return normal * -schedule.log_snr_rate(t) / (2 * self.std)

    def log_snr_range(self, schedule: Schedule) -> tuple[float, float]:
        """4.5 standard deviations to either side, which some 150,000 draws reach."""
        low, high = float(schedule.log_snr(1.0)), float(schedule.log_snr(0.0))
        middle, width = -2 * self.mean, 2 * 4.5 * self.std
        return max(low, middle - width), min(high, middle + width)
