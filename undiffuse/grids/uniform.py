"""Times at equal distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.grids.base import Grid, intervals
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class Uniform(Grid):
    """t_i = 1 - i / n. On a discrete schedule with T steps, n = T gives the chain's own times.

    >>> from undiffuse.schedules.vp import VP
    >>> Uniform().times(VP(), 4).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    name: ClassVar[str] = "uniform"

    def times(self, schedule: Schedule, steps: int) -> Tensor:
        n = intervals(schedule, steps)
        left = torch.arange(n, -1, -1, dtype=torch.float64)  # intervals still to go
        return left / n if n else torch.ones(1, dtype=torch.float64)
