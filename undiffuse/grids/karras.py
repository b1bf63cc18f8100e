"""The noise levels of EDM: equal distances in a power of sigma/alpha."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.grids.span import Span


@dataclass(frozen=True)
class Karras(Span):
    """(sigma/alpha)^(1/rho) falls in equal steps from `noise_max` to `noise_min`, then to t = 0.

    rho = 1 is linear in sigma/alpha, and rho to infinity is the log-SNR grid. On the schedule EDM
    with the same rho and the same ends it is the uniform grid. Ends as for every grid in the noise
    level (`Span`).

    Raises:
        UndiffuseError: unless 0 < noise_min < noise_max and rho is in [1, 1000]; in `times`: the
            schedule has no noise between them.

    Source: Karras et al. 2022 (arXiv 2206.00364), equation 5.

    >>> from undiffuse.schedules.flow import Flow
    >>> times = Karras(9.0, 1.0, rho=2.0).times(Flow(), 3)  # sigma/alpha 9, 4, 1, 0
    >>> [round(t, 9) for t in times.tolist()]
    [0.9, 0.8, 0.5, 0.0]
    """

    name: ClassVar[str] = "karras"
    noise_min: float = 0.002
    rho: float = 7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(finite(self.rho) and 1 <= self.rho <= 1000, self, "rho", "in [1, 1000]")

    def log_snrs(self, first: float, last: float, count: int) -> Tensor:
        high, low = (math.exp(-l / 2 / self.rho) for l in (first, last))
        along = torch.linspace(0, 1, count, dtype=torch.float64)
        return -2 * self.rho * (high + along * (low - high)).log()
