r"""Recall: the share of real samples that could have been generated.

    recall = 1/N sum_i [y_i lies in the ball of some generated point]

The ball of a generated point reaches to its k-th nearest generated neighbour: a model that leaves
out a part of the data has a low recall, however good its samples are. Points far from all others
have wide balls, so a few outliers may raise it; coverage does not have this weakness.

Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from undiffuse.catalogue import check
from undiffuse.metrics.balls import counts, inside, radii
from undiffuse.metrics.base import Metric


@dataclass(frozen=True)
class Recall(Metric):
    """Share of the real points within the k-nearest-neighbour balls of generated ones, in [0, 1].

    Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991).

    >>> import torch
    >>> real = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    >>> Recall(k=1)(real[:3], real)
    0.75
    """

    name: ClassVar[str] = "recall"
    better: ClassVar[Literal["lower", "higher"]] = "higher"

    k: int = 3

    def __post_init__(self) -> None:
        check(counts(self.k), self, "k", "a whole number of at least 1")

    @property
    def least(self) -> int:
        return self.k + 1

    def measure(self, generated: Tensor, real: Tensor) -> float:
        within = inside(real, generated, radii(generated, self.k))
        return sum(int(rows.any(1).sum()) for rows in within) / len(real)
