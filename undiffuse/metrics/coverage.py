r"""Coverage: the share of real neighbourhoods that hold a generated sample.

    coverage = 1/N sum_i [some generated point lies in the ball of y_i]

The ball of a real point reaches to its k-th nearest real neighbour. As the balls are those of real
points, generated outliers cannot raise it. For equal distributions and equally many points its mean
is 1 - (N - 1) ... (N - k) / ((2N - 1) ... (2N - k)), near 1 - 2^-k.

Source: Naeem et al. 2020 (arXiv 2002.09797), and its appendix for the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.metrics.balls import OfBalls, inside, radii


@dataclass(frozen=True)
class Coverage(OfBalls):
    """Share of the real k-nearest-neighbour balls that hold a generated point, in [0, 1].

    Source: Naeem et al. 2020 (arXiv 2002.09797).

    >>> real = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    >>> Coverage(k=1)(torch.tensor([[0.5], [9.0]]), real)
    0.75
    """

    name: ClassVar[str] = "coverage"

    k: int = 5

    def measure(self, generated: Tensor, real: Tensor) -> float:
        held = torch.zeros(len(real), dtype=torch.bool)
        for rows in inside(generated, real, radii(real, self.k)):
            held |= rows.any(0)
        return int(held.sum()) / len(real)
