"""t uniform: over [0, 1], or over the steps of a discrete chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check
from undiffuse.objectives.times.base import Times
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class Uniform(Times):
    """t = 1 - u in (0, 1], or with `steps` = T, t in {1/T, 2/T, ..., 1} with equal chances.

    Source: Ho et al. 2020 (arXiv 2006.11239), algorithm 1; lectures 000, 001, 002, 004.
    """

    name: ClassVar[str] = "uniform"
    steps: int | None = None

    def __post_init__(self) -> None:
        check(self.steps is None or 1 <= self.steps <= 10**9, self, "steps", "from 1 to 10^9")

    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        if self.steps is None:
            return 1 - u
        return ((u * self.steps).floor() + 1).clamp(max=self.steps) / self.steps

    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        return torch.ones_like(t)
