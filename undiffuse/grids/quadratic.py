"""Times that grow denser towards data as a square does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.grids.base import Grid
from undiffuse.grids.uniform import Uniform
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class Quadratic(Grid):
    r"""t_i = (1 - i / n)^2.

    The paper's \tau_i = floor(c i^2) with c so chosen that the last one is the end of the chain,
    without the rounding.

    Source: Song et al. 2021 (arXiv 2010.02502), appendix D.2.

    >>> from undiffuse.schedules.vp import VP
    >>> Quadratic().times(VP(), 4).tolist()
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """

    name: ClassVar[str] = "quadratic"

    def times(self, schedule: Schedule, steps: int) -> Tensor:
        return Uniform().times(schedule, steps) ** 2
