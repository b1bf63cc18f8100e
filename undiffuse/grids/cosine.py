"""Times at equal distances in the angle between data and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.grids.base import Grid
from undiffuse.grids.uniform import Uniform
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class Cosine(Grid):
    """theta = atan(sigma / alpha) falls in equal steps from the schedule's first to its last.

    The noise levels that the cosine schedule has at equal times, under any schedule: on that
    schedule it is the uniform grid. Many steps at middle noise, few at either end.

    Source: Nichol & Dhariwal 2021 (arXiv 2102.09672), section 3.2; Salimans & Ho 2022
    (arXiv 2202.00512), section 4, for the angle.

    >>> from undiffuse.schedules.flow import Flow  # sigma/alpha = tan 45 degrees half way
    >>> [round(t, 9) for t in Cosine().times(Flow(), 2).tolist()]
    [1.0, 0.5, 0.0]
    """

    name: ClassVar[str] = "cosine"

    def times(self, schedule: Schedule, steps: int) -> Tensor:
        share = Uniform().times(schedule, steps)
        low, high = (torch.atan2(schedule.sigma(t), schedule.alpha(t)) for t in (0.0, 1.0))
        angle = torch.lerp(low, high, share)
        times = schedule.t_from_log_snr(2 * (angle.cos().log() - angle.sin().log()))
        return torch.where((share == 0) | (share == 1), share, times)  # the ends to the bit
