"""Times at noise levels that are given one by one."""

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
class Levels(Grid):
    """sigma/alpha falls from `noise_max` through `noise_levels`, then one step goes to t = 0.

    n - 1 levels are for n steps. The start is cut to what the schedule has. Where sigma(0) > 0 the
    denoising call at the last level takes the place of the step to 0.

    Raises:
        UndiffuseError: levels that do not fall or are not positive, or a start that is not above
            them; in `times`: another number of steps, or a schedule that lacks some of the levels.

    >>> from undiffuse.schedules.flow import Flow
    >>> Levels((1.0, 0.25), noise_max=4.0).times(Flow(), 3).tolist()
    [0.8, 0.5, 0.2, 0.0]
    """

    name: ClassVar[str] = "levels"
    noise_levels: tuple[float, ...]
    noise_max: float = 80.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_levels", tuple(self.noise_levels))
        falls = finite(*self.noise_levels) and all(level > 0 for level in self.noise_levels)
        falls = falls and list(self.noise_levels) == sorted(set(self.noise_levels), reverse=True)
        check(falls, self, "noise_levels", "positive numbers, each less than the one before")
        above = finite(self.noise_max) and self.noise_max > max(self.noise_levels, default=0)
        check(above, self, "noise_max", "a number above all noise_levels")

    def times(self, schedule: Schedule, steps: int) -> Tensor:
        intervals(schedule, steps)  # refuses what is no number of steps
        if steps != len(self.noise_levels) + 1:
            raise UndiffuseError(
                f"{len(self.noise_levels)} noise levels make {len(self.noise_levels) + 1} steps,"
                f" not {steps}: ask for as many, or take another grid"
            )
        if not self.fits(schedule):
            raise UndiffuseError(
                f"the noise levels from {max(self.noise_levels):.4g} to"
                f" {min(self.noise_levels):.4g} do not lie within {schedule}: take another grid"
            )
        first = max(-2 * math.log(self.noise_max), float(schedule.log_snr(1.0)))
        log_snrs = [first, *(-2 * math.log(level) for level in self.noise_levels)]
        times = schedule.t_from_log_snr(torch.tensor(log_snrs, dtype=torch.float64))
        if bool(schedule.sigma(0.0) == 0):
            times = torch.cat([times, torch.zeros(1, dtype=torch.float64)])
        return times

    def fits(self, schedule: Schedule) -> bool:
        """Whether the schedule has all of the levels, and noise above the highest."""
        low, high = float(schedule.log_snr(1.0)), float(schedule.log_snr(0.0))
        return all(low < -2 * math.log(level) <= high for level in self.noise_levels)
