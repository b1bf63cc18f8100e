"""Times at the quantiles of a Beta distribution: dense at both ends, or in the middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.special import betaincinv
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.errors import UndiffuseError
from undiffuse.grids.base import Grid
from undiffuse.grids.uniform import Uniform
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class Beta(Grid):
    """t_i = F^-1(1 - i / n), F the distribution function of Beta(a, b) on [0, 1].

    a = b = 1 is the uniform grid. Below 1, as in the paper, the steps are short at both ends,
    where the spectrum of an image changes most; a rules the end at data, b the end at noise.

    Raises:
        UndiffuseError: a or b outside (0, 100]; in `times`: they crowd so many times together that
            two of them are the same number.

    Source: Lee et al. 2024 (arXiv 2407.12173), with a = b = 0.6.

    >>> from undiffuse.schedules.vp import VP
    >>> [round(t, 4) for t in Beta().times(VP(), 4).tolist()]
    [1.0, 0.8243, 0.5, 0.1757, 0.0]
    """

    name: ClassVar[str] = "beta"
    a: float = 0.6
    b: float = 0.6

    def __post_init__(self) -> None:
        for field in ("a", "b"):
            value = getattr(self, field)
            check(finite(value) and 0 < value <= 100, self, field, "in (0, 100]")

    def times(self, schedule: Schedule, steps: int) -> Tensor:
        share = Uniform().times(schedule, steps)
        times = torch.from_numpy(betaincinv(self.a, self.b, share.numpy()))
        if not bool((times.diff() < 0).all()):
            raise UndiffuseError(
                f"{self}: two of the times of {steps} steps are the same number; use fewer steps,"
                " or a and b nearer to 1"
            )
        return times
