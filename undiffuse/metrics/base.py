r"""What every metric is: a number from two clouds of points.

The points are generated and real samples, [M, D] and [N, D], or features of them. Everything is
computed in float64. A metric of finitely many points is not that of the two distributions: most are
biased, and the fewer the points the more. So a figure says something only beside that of as many
real points, the floor; `evaluation.distribution` puts it there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError


class Metric(ABC):
    """A number that says how far generated points lie from real ones. Subclasses are final.

    `better` tells which way is better; `reference` how many real points there should be at most:
    None stands for as many as were generated, which the metrics of neighbours need.
    """

    name: ClassVar[str]
    better: ClassVar[Literal["lower", "higher"]]
    reference: ClassVar[int | None] = None

    @property
    def least(self) -> int:
        """The smallest number of points of either kind."""
        return 2

    def __call__(self, generated: Tensor, real: Tensor) -> float:
        """The metric of points [M, D] beside real ones [N, D].

        Raises:
            UndiffuseError: too few points, values that are not finite, or points of unequal
                length.
        """
        clouds = [v.detach().cpu().double().flatten(1) for v in (generated, real)]
        for cloud, words in zip(clouds, ("generated", "real"), strict=True):
            if len(cloud) < self.least:
                raise UndiffuseError(
                    f"'{self.name}' needs at least {self.least} {words} samples, not {len(cloud)}"
                )
            if not bool(torch.isfinite(cloud).all()):
                raise UndiffuseError(f"'{self.name}': a {words} sample is not finite")
        a, b = clouds
        if a.shape[1] != b.shape[1]:
            raise UndiffuseError(
                f"'{self.name}': generated samples have {a.shape[1]} numbers, real ones"
                f" {b.shape[1]}; both must be equal"
            )
        return self.measure(a, b)

    @abstractmethod
    def measure(self, generated: Tensor, real: Tensor) -> float:
        """The metric of float64 points [M, D] and [N, D]."""
