"""Times at equal distances in log-SNR: the noise level falls by the same factor at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.errors import UndiffuseError
from undiffuse.grids.base import Grid, intervals
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class LogSNR(Grid):
    """sigma/alpha falls geometrically from `noise_max` to `noise_min`, then one step to t = 0.

    Both ends are cut to what the schedule has: VP (which goes up to sigma/alpha = 152) starts at
    `noise_max`, EDM(sigma_max=40) at 40. Where sigma(0) > 0 the denoising call at the end takes the
    place of the step to 0. With 8-bit images a relative noise below 0.01 is invisible.

    Raises:
        UndiffuseError: unless 0 < noise_min < noise_max; in `times`: the schedule has no noise
            between them.

    >>> from undiffuse.schedules.flow import Flow
    >>> LogSNR(noise_max=4.0, noise_min=1.0).times(Flow(), 3).tolist()  # sigma/alpha 4, 2, 1, 0
    [0.8, 0.666..., 0.5, 0.0]
    """

    name: ClassVar[str] = "log-snr"
    noise_max: float = 80.0
    noise_min: float = 0.01

    def __post_init__(self) -> None:
        check(finite(self.noise_min) and self.noise_min > 0, self, "noise_min", "positive")
        check(
            finite(self.noise_max) and self.noise_max > self.noise_min,
            self,
            "noise_max",
            "larger than noise_min",
        )

    def times(self, schedule: Schedule, steps: int) -> Tensor:
        first = max(-2 * math.log(self.noise_max), float(schedule.log_snr(1.0)))
        last = min(-2 * math.log(self.noise_min), float(schedule.log_snr(0.0)))
        if not first < last:
            raise UndiffuseError(
                f"{self} has no noise level in common with {schedule}: use a lower noise_min or a"
                " higher noise_max"
            )
        n = intervals(schedule, steps)
        to_zero = bool(schedule.sigma(0.0) == 0)
        spaced = torch.linspace(first, last, n if to_zero else n + 1, dtype=torch.float64)
        times = schedule.t_from_log_snr(spaced)
        return torch.cat([times, torch.zeros(1, dtype=torch.float64)]) if to_zero else times
