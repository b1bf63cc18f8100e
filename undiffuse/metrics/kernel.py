r"""The kernel distance: the squared maximum mean discrepancy with a cubic kernel.

    k(x, y) = (x.y / D + 1)^3
    d = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

It is 0 only where all moments up to the third agree. Unlike the Frechet distance it has no bias:
its mean does not depend on the number of points, and for equal distributions it scatters around 0
and may be negative.

Source: Binkowski et al. 2018 (arXiv 1801.01401), "KID"; Gretton et al. 2012 for the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from undiffuse.metrics.base import Metric

ROWS = 1024  # of the matrix of kernels, at once


@dataclass(frozen=True)
class Kernel(Metric):
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, without bias.

    Source: Binkowski et al. 2018 (arXiv 1801.01401).

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> Kernel()(x, x)
    -3.5
    """

    name: ClassVar[str] = "kernel"
    better: ClassVar[Literal["lower", "higher"]] = "lower"
    reference: ClassVar[int | None] = 5_000

    def measure(self, generated: Tensor, real: Tensor) -> float:
        within = sum(
            (total(x, x) - float(own(x).sum())) / (len(x) * (len(x) - 1)) for x in (generated, real)
        )
        return within - 2 * total(generated, real) / (len(generated) * len(real))


def total(x: Tensor, y: Tensor) -> float:
    """The sum of the kernel over all pairs of [M, D] and [N, D]."""
    parts = ((part @ y.T / x.shape[1] + 1).pow(3).sum() for part in x.split(ROWS))
    return float(sum(float(part) for part in parts))


def own(x: Tensor) -> Tensor:
    """The kernel of each point with itself, [M]."""
    return (x.square().mean(1) + 1).pow(3)
