"""logit(t) normal: the middle of the way between data and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.objectives.times.base import Times, log_snr_ends
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class LogitNormal(Times):
    """t = sigmoid(z), z ~ N(mean, std^2), whatever the schedule; made for Flow.

    p(t) = exp(-(logit(t) - mean)^2 / (2 std^2)) / (std sqrt(2 pi) t (1 - t)).

    A positive mean favours noise. Under the Flow schedule logit(t) = log(sigma/alpha), so there it
    is LogNormal(mean, std).

    Raises:
        UndiffuseError: unless mean is finite and std positive.

    Source: Esser et al. 2024 (arXiv 2403.03206), "logit-normal sampling" (mean 0, std 1).

    >>> from undiffuse.schedules.flow import Flow
    >>> LogitNormal().times(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), Flow()).tolist()
    [0.337..., 0.5, 0.662...]
    """

    name: ClassVar[str] = "logit-normal"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check(finite(self.mean), self, "mean", "a finite number")
        check(finite(self.std) and self.std > 0, self, "std", "positive")

    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        z = self.mean + self.std * torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
        return torch.sigmoid(z)

    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        t = t.clamp(1e-15, 1 - 1e-15)  # at the ends themselves it is 0 / 0, and 0
        z = (torch.logit(t) - self.mean) / self.std
        return torch.exp(-(z**2) / 2) / (math.sqrt(2 * math.pi) * self.std * t * (1 - t))

    def log_snr_range(self, schedule: Schedule) -> tuple[float, float]:
        """4.5 standard deviations of logit(t) to either side, which some 150,000 draws reach."""
        z = torch.tensor([4.5, -4.5], dtype=torch.float64) * self.std + self.mean
        low, high = schedule.log_snr(torch.sigmoid(z)).tolist()
        lowest, highest = log_snr_ends(schedule)
        return max(low, lowest), min(high, highest)
