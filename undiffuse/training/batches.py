r"""What a step learns from: data, times and noise, as functions of (seed, step).

A step n takes the data at positions n B ... (n + 1) B - 1 of an endless sequence of permuted
epochs, and draws its times, noise, hidden labels and mirrored images from counters (seed, purpose,
n). Nothing is remembered from one step to the next, so the place in the data is one integer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from undiffuse import noise
from undiffuse.data.dataset import Batch, Dataset
from undiffuse.objectives.coupling import couple
from undiffuse.training.recipe import DataOptions, TrainingOptions

DRAWS = {"stratified": noise.uniform, "low-discrepancy": noise.low_discrepancy}


class Drawn(NamedTuple):
    """All that a step draws, on the CPU."""

    indices: Tensor  # of the samples, [B]
    x_0: Tensor  # [B, ...]
    label: Tensor | None  # [B], -1 where it is hidden
    u: Tensor  # uniform numbers that choose the times, [B]
    eps: Tensor  # [B, ...]
    seconds: float  # until the data was there

    def parts(self, count: int) -> Iterator[Drawn]:
        """The same in `count` parts of nearly equal size."""
        whole = (self.indices, self.x_0, self.label, self.u, self.eps)
        columns = [(None,) * count if c is None else c.tensor_split(count) for c in whole]
        for indices, x_0, label, u, eps in zip(*columns, strict=True):
            yield Drawn(indices, x_0, label, u, eps, self.seconds)


class Order:
    """Which samples a step sees: each once per epoch, every epoch in its own random order."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._epoch: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def _permutation(self, epoch: int) -> Tensor:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, noise.permutation(self.seed, "order", self.count, epoch))
        return self._epoch[1]

    def indices(self, step: int) -> Tensor:
        """The indices of step `step`, [B]; a batch may run over the end of an epoch."""
        parts, position, wanted = [], step * self.batch_size, self.batch_size
        while wanted:
            epoch, offset = divmod(position, self.count)
            part = self._permutation(epoch)[offset : offset + wanted]
            parts.append(part)
            position, wanted = position + len(part), wanted - len(part)
        return torch.cat(parts)


def prepare(
    batch: Batch, seed: int, step: int, data: DataOptions, options: TrainingOptions
) -> tuple[Tensor, Tensor | None]:
    """Mirror images and hide labels as this step's counters say."""
    x, label = batch
    if data.flip:
        mirrored = noise.uniform(seed, "flip", len(x), step) < 0.5
        x = torch.where(mirrored.reshape(-1, *(1,) * (x.ndim - 1)), x.flip(-1), x)
    if label is not None and options.label_dropout:
        hidden = noise.uniform(seed, "label", len(x), step) < options.label_dropout
        label = label.masked_fill(hidden, -1)
    return x, label


class Batches:
    """What each step of a run draws."""

    def __init__(
        self, dataset: Dataset, seed: int, options: TrainingOptions, data: DataOptions
    ) -> None:
        self.dataset, self.seed, self.options, self.data = dataset, seed, options, data
        self.order = Order(len(dataset), options.batch_size, seed)

    def at(self, step: int) -> Drawn:
        """What step `step` (from 0) draws."""
        begun, options = time.perf_counter(), self.options
        indices = self.order.indices(step)
        x_0, label = prepare(self.dataset.batch(indices), self.seed, step, self.data, options)
        seconds = time.perf_counter() - begun
        u = DRAWS[options.time_draws](self.seed, "time", len(x_0), step)
        eps = noise.normal(self.seed, "noise", x_0.shape, step=step)
        coupled = options.coupling == "optimal-transport"
        if coupled and bool(x_0.isfinite().all()):  # else the step is skipped anyway
            eps = couple(x_0, eps, label)
        return Drawn(indices, x_0, label, u, eps, seconds)
