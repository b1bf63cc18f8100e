r"""Recall: the share of real samples that could have been generated.

    recall = 1/N sum_i [y_i lies in the ball of some generated point]

The ball of a generated point reaches to its k-th nearest generated neighbour: a model that leaves
out a part of the data has a low recall, however good its samples are. Points far from all others
have wide balls, so a few outliers may raise it; coverage does not have this weakness.

Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.metrics.balls import OfBalls, inside, radii


@dataclass(frozen=True)
class Recall(OfBalls):
    """Share of the real points within the k-nearest-neighbour balls of generated ones, in [0, 1].

    Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991).

    >>> import torch
    >>> real = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    >>> Recall(k=1)(real[:3], real)
    0.75
    """

    name: ClassVar[str] = "recall"

    def measure(self, generated: Tensor, real: Tensor) -> float:
        within = inside(real, generated, radii(generated, self.k))
        return sum(int(rows.any(1).sum()) for rows in within) / len(real)
