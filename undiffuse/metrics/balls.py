r"""The region that points cover: a ball around each, out to its k-th nearest neighbour.

Precision, recall, density and coverage ask which points of one cloud lie in which balls of the
other. A ball is closed, and a point is no neighbour of itself.

Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991), section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from undiffuse.catalogue import check
from undiffuse.metrics.base import Metric

ROWS = 2048  # of a matrix of distances, at once


@dataclass(frozen=True)
class OfBalls(Metric):
    """A metric of the balls that reach to each point's k-th nearest neighbour; higher is better.

    Raises:
        UndiffuseError: k is no whole number of at least 1.
    """

    better: ClassVar[Literal["lower", "higher"]] = "higher"

    k: int = 3

    def __post_init__(self) -> None:
        k: object = self.k
        check(isinstance(k, int) and k >= 1, self, "k", "a whole number of at least 1")

    @property
    def least(self) -> int:
        """So many that each has a k-th neighbour."""
        return self.k + 1


def radii(points: Tensor, k: int) -> Tensor:
    """The distance [N] of each of [N, D] to its k-th nearest other one, 1 <= k < N.

    >>> radii(torch.tensor([[0.0], [1.0], [3.0]]).double(), 1).tolist()
    [1.0, 1.0, 2.0]
    """
    parts = (distances(part, points).kthvalue(k + 1, dim=1).values for part in points.split(ROWS))
    return torch.cat(list(parts))


def inside(queries: Tensor, centres: Tensor, radius: Tensor) -> Iterator[Tensor]:
    """Which queries [M, D] lie in which balls [N]: booleans [m, N], some rows at a time."""
    for part in queries.split(ROWS):
        yield distances(part, centres) <= radius


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances [M, N] of float64 points, to 1e-7 of the points' lengths.

    Of many points they come from |x|^2 + |y|^2 - 2 x.y, which is quick and rounds near 0.
    """
    return torch.cdist(x, y)
