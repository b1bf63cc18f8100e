r"""Density: how many real neighbourhoods a generated sample lies in.

    density = 1/(k M) sum_j sum_i [x_j lies in the ball of the real point y_i]

The ball of a real point reaches to its k-th nearest real neighbour. Unlike precision it counts
balls, so one outlier among the real points with a wide ball does little. Equal distributions have
density 1; more than 1 says that samples crowd where real ones are dense.

Source: Naeem et al. 2020 (arXiv 2002.09797).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.metrics.balls import OfBalls, inside, radii


@dataclass(frozen=True)
class Density(OfBalls):
    """Mean number of real k-nearest-neighbour balls around a generated point, over k; about 1.

    Source: Naeem et al. 2020 (arXiv 2002.09797).

    >>> import torch
    >>> real = torch.tensor([[0.0], [1.0], [2.0]])
    >>> Density(k=1)(torch.tensor([[0.5], [9.0]]), real)
    1.0
    """

    name: ClassVar[str] = "density"

    k: int = 5

    def measure(self, generated: Tensor, real: Tensor) -> float:
        within = inside(generated, real, radii(real, self.k))
        return sum(int(rows.sum()) for rows in within) / (self.k * len(generated))
