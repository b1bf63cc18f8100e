"""Two interleaved half circles in the plane, the usual toy of clustering and of flows.

The first moon is (cos a, sin a), the second (1 - cos a, 1/2 - sin a), a uniform in [0, pi], with
Gaussian noise; both are shifted by (-1/2, -1/4), which centres them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from undiffuse.catalogue import check, finite
from undiffuse.data.dataset import Dataset, InMemory
from undiffuse.data.source import Source


@dataclass(frozen=True)
class Moons(Source):
    """Two interleaved half circles in the plane; the label says which."""

    name: ClassVar[str] = "moons"

    count: int = 8192
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check(type(self.count) is int and self.count >= 1, self, "count", "a positive integer")
        check(finite(self.noise) and self.noise >= 0, self, "noise", "a number of at least 0")
        check(type(self.seed) is int and self.seed >= 0, self, "seed", "an integer from 0 on")

    def open(self) -> Dataset:
        return self._draw(self.count, 0, self._draw(max(1, self.count // 10), 1, None))

    def _draw(self, count: int, part: int, held_out: Dataset | None) -> InMemory:
        rng = np.random.default_rng([self.seed, part])
        label = rng.integers(2, size=count)
        angle = rng.uniform(0.0, np.pi, size=count)
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # [N, 2]
        x[label == 1] = np.array([1.0, 0.5]) - x[label == 1]
        x += np.array([-0.5, -0.25]) + self.noise * rng.standard_normal((count, 2))
        return InMemory(
            torch.from_numpy(x.astype(np.float32)),
            source=self.name,
            labels=torch.from_numpy(label),
            class_names=("upper", "lower"),
            held_out=held_out,
        )
