r"""Importance sampling: t more often where losses are large, each loss then counting less.

The estimate E_p[l(t) / p(t)] of int l dt scatters least for p(t) proportional to sqrt(E l(t)^2).
The losses of training tell that expectation, in cells of t; its square root, together with a share
of uniform times, is the density of the next step. What was seen is a value (`squares`), so training
carries it as part of its state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.objectives.times.base import Times
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class Importance(Times):
    """t with a density constant in each of `cells` equal intervals of (0, 1], learned from losses.

    p = share + (1 - share) cells sqrt(s_i) / sum_j sqrt(s_j) in cell i, where s_i averages the
    squares of about the last `history` losses there; uniform until every cell has seen a loss.
    correction = 1 / p (at most 1 / share): the expectation is that of Uniform(steps).

    Args:
        cells: the number of intervals.
        steps: T of a chain, where t is in {1/T, ..., 1}; None: t in (0, 1].
        history: how many losses a cell remembers, at least 1.
        share: the share of draws that stay uniform, in (0, 1].
        squares: the mean squared loss of each cell, 0 where none was seen; empty at first.

    Raises:
        UndiffuseError: an option out of its range.

    Source: Nichol & Dhariwal 2021 (arXiv 2102.09672), section 3.3 (there cells = steps, a plain
    mean of the last 10 losses).

    >>> Importance(cells=2, share=0.5, squares=(1.0, 9.0)).weights.tolist()
    [0.75, 1.25]
    """

    name: ClassVar[str] = "importance"
    cells: int = 32
    steps: int | None = None
    history: float = 10.0
    share: float = 0.1
    squares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "squares", tuple(self.squares))
        check(1 <= self.cells <= 10**6, self, "cells", "from 1 to 1000000")
        check(self.steps is None or 1 <= self.steps <= 10**9, self, "steps", "from 1 to 10^9")
        check(finite(self.history) and self.history >= 1, self, "history", "at least 1")
        check(finite(self.share) and 0 < self.share <= 1, self, "share", "in (0, 1]")
        fine = finite(*self.squares) and all(s >= 0 for s in self.squares)
        fine = fine and len(self.squares) in (0, self.cells)
        check(fine, self, "squares", "empty, or one number >= 0 for each cell")

    @property
    def weights(self) -> Tensor:
        """p in each cell, [cells], of mean 1."""
        seen = torch.tensor(self.squares, dtype=torch.float64)
        if not len(seen) or not bool((seen > 0).all()):
            return torch.ones(self.cells, dtype=torch.float64)
        rms = seen.sqrt()
        return self.share + (1 - self.share) * rms / rms.mean()

    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        p = self.weights.to(u.device) / self.cells
        edges = p.cumsum(0)
        v = 1 - u  # in (0, 1], as Uniform
        cell = torch.searchsorted(edges, v).clamp(max=self.cells - 1)
        t = (cell + 1 - (edges[cell] - v) / p[cell]) / self.cells
        if self.steps is not None:
            t = (t * self.steps).ceil() / self.steps
        return t.clamp(1e-15, 1)

    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        p = self.weights.to(t.device)
        if self.steps is None:
            return p[self._cell(t)]
        k = (t * self.steps).round()  # its probability is the integral of p over the step
        return (self._chance(k / self.steps) - self._chance((k - 1) / self.steps)) * self.steps

    def measure(self, t: Tensor, schedule: Schedule) -> Tensor:
        """1: that of uniform times."""
        return torch.ones_like(t)

    def correction(self, t: Tensor, schedule: Schedule) -> Tensor:
        """1 / p(t)."""
        return 1 / self.density(t, schedule)

    def updated(self, u: Tensor, loss: Tensor, schedule: Schedule) -> Importance:
        """With the corrected losses [B] of the numbers u [B] taken into the cells' averages."""
        t = self.times(u, schedule)
        squares = (loss.double() * self.density(t, schedule)).square().cpu()
        cell = self._cell(t).cpu()
        count = torch.bincount(cell, minlength=self.cells).double()
        mean = torch.bincount(cell, squares, self.cells) / count.clamp(min=1)
        old = torch.tensor(self.squares or (0.0,) * self.cells, dtype=torch.float64)
        rate = torch.where(old == 0, 1.0, 1 - (1 - 1 / self.history) ** count)
        new = torch.where(count == 0, old, old + rate * (mean - old))
        return replace(self, squares=tuple(new.tolist()))

    def _cell(self, t: Tensor) -> Tensor:
        return ((t * self.cells).ceil().long() - 1).clamp(0, self.cells - 1)

    def _chance(self, t: Tensor) -> Tensor:
        """The chance of a time up to t, before it is rounded up to a step."""
        p = self.weights.to(t.device) / self.cells
        cell = self._cell(t)
        return p.cumsum(0)[cell] - p[cell] * (cell + 1 - t * self.cells)
