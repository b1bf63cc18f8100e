r"""How far samples lie from the nearest training sample: a machine that copies would be seen.

The distance is the root mean square difference over all numbers of a sample, so images in [-1, 1]
lie at most 2 apart. A distance alone says little: it stands beside the same distance of real
samples that the model has not seen. A model that learned the distribution lies about as far from
its training samples as those do; one that copies lies much nearer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.data.dataset import Dataset
from undiffuse.evaluation.spread import spread

CHUNK = 2**22  # numbers read at once: 5,000 images of 28x28 pixels, 34 MB in float64


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest training sample of each query: distances [B] (float64) and indices [B].

    A distance is infinite where `training` held nothing else.
    """

    distance: Tensor
    index: Tensor

    def quartiles(self) -> dict[str, float] | None:
        """The quartiles of the distances and the smallest; None where there was none to find."""
        if not bool(self.distance.isfinite().all()):
            return None
        at = torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.float64)
        names = ("smallest", "first_quartile", "median", "third_quartile")
        return dict(zip(names, self.distance.quantile(at).tolist(), strict=True))


def nearest(x: Tensor, training: Dataset, itself: Tensor | None = None) -> Neighbours:
    """The nearest sample of `training` to each of x [B, *shape].

    Args:
        x: the queries.
        training: where to look, read in parts so that memory stays bounded.
        itself: an index [B] to leave out for each query, for queries that are part of `training`.
    """
    query = x.detach().cpu().double().flatten(1)  # [B, D]
    best = torch.full((len(query),), math.inf, dtype=torch.float64)
    index = torch.zeros(len(query), dtype=torch.int64)
    rows = max(1, CHUNK // query.shape[1])
    for part in torch.arange(len(training)).split(rows):
        known = training.batch(part).x.double().flatten(1)  # [P, D]
        distance = torch.cdist(query, known, compute_mode="use_mm_for_euclid_dist")  # [B, P]
        if itself is not None:
            distance.masked_fill_(part == itself[:, None], math.inf)
        value, at = distance.min(1)
        nearer = value < best
        best, index = torch.where(nearer, value, best), torch.where(nearer, part[at], index)
    found = training.batch(index).x.double().flatten(1)
    exact = (query - found).square().mean(1).sqrt()  # free of the product's rounding
    return Neighbours(torch.where(best.isfinite(), exact, best), index)


def unseen(training: Dataset, count: int) -> tuple[str, Neighbours]:
    """What distances to expect: those of `count` real samples, and in words which ones.

    They come from the held-out part, or without one from the training samples themselves, each
    compared with all the others.
    """
    if training.held_out is not None:
        chosen = spread(torch.arange(len(training.held_out)), count)
        return "held_out", nearest(training.held_out.batch(chosen).x, training)
    chosen = spread(torch.arange(len(training)), count)
    return "training", nearest(training.batch(chosen).x, training, itself=chosen)
