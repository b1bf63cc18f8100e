"""Grids that are laid out in the noise level, between two of them."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.catalogue import check_span
from undiffuse.errors import UndiffuseError
from undiffuse.grids.base import Grid, intervals
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class Span(Grid):
    """sigma/alpha falls from `noise_max` to `noise_min`, then one step goes to t = 0.

    Both ends are cut to what the schedule has: VP (which goes up to sigma/alpha = 152) starts at
    `noise_max`, EDM(sigma_max=40) at 40. Where sigma(0) > 0 the denoising call at the end takes the
    place of the step to 0. With 8-bit images a relative noise below 0.01 is invisible.

    Raises:
        UndiffuseError: unless 0 < noise_min < noise_max; in `times`: the schedule has no noise
            between them.
    """

    noise_max: float = 80.0
    noise_min: float = 0.01

    def __post_init__(self) -> None:
        check_span(self, "noise_min", "noise_max")

    @abstractmethod
    def log_snrs(self, first: float, last: float, count: int) -> Tensor:
        """`count` log-SNRs that rise from `first` towards `last`, float64; one alone is `first`."""

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
        times = schedule.t_from_log_snr(self.log_snrs(first, last, n if to_zero else n + 1))
        return torch.cat([times, torch.zeros(1, dtype=torch.float64)]) if to_zero else times
