"""The default rule: weights that were optimised once for many denoisers, step by step."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undiffuse.grids.universal import neighbours, noise_levels, table
from undiffuse.samplers.non_stationary import (
    ELSEWHERE,
    NODES,
    NonStationary,
    Weighted,
    Weights,
    to_zero,
)

MOST = 1000  # steps; with more the last one is short enough to be of first order


@functools.cache
def rule(steps: int) -> NonStationary:
    """The rule of so many steps, up to those of the table's longest row.

    Between two rows of the table the weights are those of Adams on the levels, and beside them what
    the optimised ones have more, interpolated between the neighbours at equal shares of the way.
    """
    levels = noise_levels(steps)
    shorter, longer, share = neighbours(steps)
    if shorter == longer:
        return NonStationary(levels, table()[steps].weights)
    more = (1 - share) * stretched(gain(shorter), steps) + share * stretched(gain(longer), steps)
    plain = padded(NonStationary.adams(levels), more.shape[1])
    rows = (plain + more)[1:]
    return NonStationary(
        levels, tuple(tuple(row[: min(i + 1, len(row))].tolist()) for i, row in enumerate(rows))
    )


def gain(steps: int) -> NDArray[np.float64]:
    """What the optimised weights of a row of the table have beside those of Adams, [steps, K]."""
    own = rule(steps)
    longest = max([3, *(len(row) for n in table() for row in table()[n].weights)])
    return padded(own, longest) - padded(NonStationary.adams(own.noise_levels), longest)


def padded(own: NonStationary, length: int) -> NDArray[np.float64]:
    """The rows of a rule, one of zeros for the first step, zeros behind them: [steps, length]."""
    rows = [(), *own.weights]
    return np.array([[*row, *[0.0] * (length - len(row))] for row in rows])


def stretched(rows: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Rows at `steps` equal shares of the way, [steps, K]."""
    places, known = np.linspace(0, 1, steps), np.linspace(0, 1, len(rows))
    return np.stack([np.interp(places, known, column) for column in rows.T], axis=1)


@functools.cache
def owners() -> dict[tuple[float, float], int]:
    """Which rule, by its number of steps, a step belongs to; no two of them share a step."""
    found: dict[tuple[float, float], int] = {}
    for steps in range(2, max(table()) + 1):
        found |= dict.fromkeys(pairwise((*noise_levels(steps), 0.0)), steps)
    return found


@functools.lru_cache(maxsize=8192)
def weights_between(start: float, end: float) -> Weights | None:
    """The weights of a step of one of these rules; None: it is of none of them.

    Of the rules beyond the table, which are Adams', only the last step has weights of its own.
    """
    steps = owners().get((start, end))
    if steps is not None:
        return rule(steps).rows[start, end]
    longest = max(table())
    steps = round(longest * noise_levels(longest)[-1] / start) if end == 0 < start else 0
    if not longest < steps <= MOST or noise_levels(steps)[-1] != start:
        return None
    return tuple(to_zero(noise_levels(steps)[-NODES:][::-1])[1:])


@functools.cache
def most() -> int:
    """How many values the longest of these rows needs, or Adams of order 4."""
    rows = (row for entry in table().values() for row in entry.weights)
    return 1 + max(ELSEWHERE.order - 1, *map(len, rows))


@dataclass(frozen=True)
class Universal(Weighted):
    """A non-stationary rule for every number of steps; the default.

    Its noise levels (the grid "universal") and weights were optimised over a family of closed-form
    denoisers (`benchmarks/universal.py`), so it needs no tuning. On other times, and beyond the
    longest row of its table, it is exponential Adams-Bashforth of order 4. `undiffuse tune` makes
    such a rule for one model, which is better still.

    Source: Shaul et al. 2024 (arXiv 2403.01329), here for many denoisers at once.
    """

    name: ClassVar[str] = "universal"
    grid: ClassVar[str] = "universal"

    def weights_between(self, start: float, end: float) -> Weights | None:
        return weights_between(start, end)

    @property
    def longest(self) -> int:
        return most()
