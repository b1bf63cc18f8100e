r"""The energy distance: 0 only for equal distributions, of any kind.

    d = 2 E|x - y| - E|x - x'| - E|y - y'|

Every pair is counted, also of a point with itself, so d is never negative; for equal distributions
it falls like 1/N.

Source: Szekely and Rizzo 2013, "Energy statistics: a class of statistics based on distances".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from undiffuse.metrics.balls import ROWS, distances
from undiffuse.metrics.base import Metric


@dataclass(frozen=True)
class Energy(Metric):
    """Energy distance 2 E|x - y| - E|x - x'| - E|y - y'| of the points.

    Source: Szekely and Rizzo 2013.

    >>> import torch
    >>> x = torch.tensor([[0.0], [2.0]])
    >>> Energy()(x, x), Energy()(x, x + 1)
    (0.0, 1.0)
    """

    name: ClassVar[str] = "energy"
    better: ClassVar[Literal["lower", "higher"]] = "lower"

    @property
    def least(self) -> int:
        return 1

    def measure(self, generated: Tensor, real: Tensor) -> float:
        within = apart(generated, generated) + apart(real, real)
        return 2 * apart(generated, real) - within


def apart(x: Tensor, y: Tensor) -> float:
    """The mean distance of the pairs of [M, D] and [N, D]."""
    total = sum(float(distances(part, y).sum()) for part in x.split(ROWS))
    return total / (len(x) * len(y))
