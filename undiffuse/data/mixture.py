"""Gaussians on a circle: a density whose ideal denoiser, score and likelihood are known exactly.

p(x) = 1/K sum_k N(x; m_k, std^2 I) with m_k = radius (cos 2 pi k/K, sin 2 pi k/K). What is learned
from it can be compared with `exact.GaussianMixture` of the same means, weights and std.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.data.dataset import Dataset, InMemory
from undiffuse.data.source import Source


@dataclass(frozen=True)
class Mixture(Source):
    """Gaussians evenly on a circle in the plane; the label says which.

    >>> Mixture(modes=2, radius=3.0).means.round().tolist()
    [[3.0, 0.0], [-3.0, 0.0]]
    """

    name: ClassVar[str] = "mixture"

    count: int = 8192
    modes: int = 8
    std: float = 0.2
    radius: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check(type(self.count) is int and self.count >= 1, self, "count", "a positive integer")
        check(type(self.modes) is int and self.modes >= 1, self, "modes", "a positive integer")
        check(finite(self.std) and self.std >= 0, self, "std", "a number of at least 0")
        check(finite(self.radius) and self.radius >= 0, self, "radius", "a number of at least 0")
        check(type(self.seed) is int and self.seed >= 0, self, "seed", "an integer from 0 on")

    @property
    def means(self) -> Tensor:
        """The centres m_k, float64 [K, 2]."""
        angle = 2 * torch.pi * torch.arange(self.modes, dtype=torch.float64) / self.modes
        return self.radius * torch.stack([angle.cos(), angle.sin()], dim=1)

    @property
    def weights(self) -> Tensor:
        """The probabilities of the modes, float64 [K], all 1/K."""
        return torch.full((self.modes,), 1.0 / self.modes, dtype=torch.float64)

    def open(self) -> Dataset:
        return self._draw(self.count, 0, self._draw(max(1, self.count // 10), 1, None))

    def _draw(self, count: int, part: int, held_out: Dataset | None) -> InMemory:
        rng = np.random.default_rng([self.seed, part])
        label = torch.from_numpy(rng.integers(self.modes, size=count))
        x = self.means[label] + self.std * torch.from_numpy(rng.standard_normal((count, 2)))
        return InMemory(
            x.to(torch.float32),
            source=self.name,
            labels=label,
            class_names=tuple(str(mode) for mode in range(self.modes)),
            held_out=held_out,
        )
