r"""Precision: the share of generated samples that could be real.

    precision = 1/M sum_j [x_j lies in the ball of some real point]

The ball of a real point reaches to its k-th nearest real neighbour. It says nothing about variety:
one good sample drawn again and again has precision 1.

Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.metrics.balls import OfBalls, inside, radii


@dataclass(frozen=True)
class Precision(OfBalls):
    """Share of the generated points within the k-nearest-neighbour balls of real ones, in [0, 1].

    Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991).

    >>> import torch
    >>> real = torch.tensor([[0.0], [1.0], [2.0]])
    >>> Precision(k=1)(torch.tensor([[0.5], [9.0]]), real)
    0.5
    """

    name: ClassVar[str] = "precision"

    def measure(self, generated: Tensor, real: Tensor) -> float:
        within = inside(generated, real, radii(real, self.k))
        return sum(int(rows.any(1).sum()) for rows in within) / len(generated)
