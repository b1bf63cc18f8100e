r"""Every metric of a set of samples, and the same of real samples that were held out: the floor.

A metric of 500 samples is not that of 5,000, so a figure is read beside what as many real samples
get: several draws of the held-out part, none in two of them, each of the same size and against the
same training samples. What lies within the spread of the draws cannot be told from real data by
that metric and so many samples. If the held-out part is smaller than the set of samples, as many
are compared as there are.

Samples are drawn at random and not evenly spread: the labels of MNIST alternate in a pattern, so
that every 12th image is no fair sample of its classes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from undiffuse import catalogue, noise
from undiffuse.data.dataset import Dataset
from undiffuse.metrics.base import Metric

DRAWS = 5  # of held-out samples, at most
MOST, PART = 100_000, 2000  # real samples at most, and how many are read at once


@dataclass(frozen=True, eq=False)
class Reference:
    """Real samples as points, to compare others with.

    Attributes:
        training: what a model was trained on. Its held-out part gives the floor; without one,
            every tenth training sample does, and is left out of the comparison.
        features: samples [B, *shape] to points [B, D]; None: the samples' own numbers.
    """

    training: Dataset
    features: Callable[[Tensor], Tensor] | None = None
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def figures(self, x: Tensor) -> dict[str, Any]:
        """Each metric of samples x [M, *shape], and of real ones, by the metric's name.

        `compared` is how many samples stand on each side, `draws` how many times real ones were
        drawn; a metric that needs more samples than there are is None.
        """
        _, held_out = self.real()
        count = min(len(x), len(held_out))
        draws = max(1, min(DRAWS, len(held_out) // max(count, 1)))
        points = self.points(x[:count])
        metrics = [catalogue.build(name, "metrics") for name in catalogue.names("metrics")]
        found: dict[str, Any] = {"compared": count, "draws": draws}
        for metric in metrics:
            found[metric.name] = self._one(metric, points, draws)
        return found

    def _one(self, metric: Metric, points: Tensor, draws: int) -> dict[str, Any] | None:
        """A metric of points, and the same of as many held-out ones."""
        training, _ = self.real()
        count = len(points)
        reference = training[: metric.reference or count]
        if min(count, len(reference)) < metric.least:
            return None
        return {"generated": metric(points, reference), "real": self.floor(metric, count, draws)}

    def floor(self, metric: Metric, count: int, draws: int) -> dict[str, float]:
        """Smallest, median and largest value for draws of `count` held-out samples."""
        if (metric, count, draws) not in self._kept:
            training, held_out = self.real()
            reference = training[: metric.reference or count]
            values = [metric(held_out[k * count :][:count], reference) for k in range(draws)]
            self._kept[metric, count, draws] = {
                "smallest": min(values),
                "median": statistics.median(values),
                "largest": max(values),
            }
        known: dict[str, float] = self._kept[metric, count, draws]
        return known

    def real(self) -> tuple[Tensor, Tensor]:
        """Points [N, D] of training samples and of held-out ones, at most 100,000, in any order."""
        if "real" not in self._kept:
            every, held_out = torch.arange(len(self.training)), self.training.held_out
            if held_out is None:
                parts = (self.training, every[every % 10 != 9]), (self.training, every[9::10])
            else:
                parts = (self.training, every), (held_out, torch.arange(len(held_out)))
            self._kept["real"] = tuple(self._read(*part) for part in parts)
        a, b = self._kept["real"]
        return a, b

    def points(self, x: Tensor) -> Tensor:
        """Samples [B, *shape] as points [B, D], float64."""
        return x.double().flatten(1) if self.features is None else self.features(x)

    def _read(self, dataset: Dataset, indices: Tensor) -> Tensor:
        order = indices[noise.permutation(0, "reference", len(indices))]
        return torch.cat([self.points(dataset.batch(p).x) for p in order[:MOST].split(PART)])
