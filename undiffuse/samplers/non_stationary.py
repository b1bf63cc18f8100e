r"""Multistep rules with weights of their own for each step.

A classical rule follows from the times alone. For a given number of steps one can do better and
optimise the noise levels and the weights together, over noise whose exact end is known
(`samplers/tuning.py`). With y = x / alpha and rho = sigma / alpha a step is

    y_s = y_t + (rho_s - rho_t) sum_j w_j eps_hat_j,      sum_j w_j = 1,

over the last values of eps_hat: any explicit linear multistep rule that is exact where the data is
one point. The step to sigma = 0 has its own weights too.

Source: Shaul et al. 2024, bespoke non-stationary solvers (arXiv 2403.01329).
"""

from __future__ import annotations

import functools
import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from numpy.polynomial import Polynomial
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.grids.base import Grid
from undiffuse.grids.levels import Levels
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.levels import Level, first_order, inner, level, noise_of
from undiffuse.samplers.multistep import Choices, coefficients, combine, multistep_weights
from undiffuse.schedules.base import Schedule

ELSEWHERE = Choices("noise", "log-snr", "exact", 4)  # for a step without weights of its own

CLEAN = Level(1.0, 0.0, math.inf)
NODES = 3  # values of the polynomial that goes on to sigma = 0

Weights = tuple[float, ...]
Past = tuple[tuple[float, Tensor], ...]  # the last values of eps_hat, each with its time
Rows = dict[tuple[float, float], Weights]


def rows_of(noise_levels: tuple[float, ...], weights: tuple[Weights, ...]) -> Rows:
    """The weights of each step by the noise levels where it begins and ends."""
    ends = [*map(rounded, noise_levels), 0.0]
    return dict(zip(itertools.pairwise(ends), weights, strict=True))


def rounded(noise_level: float) -> float:
    """A noise level to six digits: equal for all times that mean the same level."""
    return float(f"{noise_level:.6g}")


@functools.lru_cache(maxsize=8192)
def factors(weights: Weights, now: Level, then: Level) -> tuple[float, ...]:
    """(c, c_0, c_1, ...) of x_s = c x_t + sum_j c_j eps_hat_j, the newest value first."""
    moved = then.alpha * (then.ratio - now.ratio)
    return (then.alpha / now.alpha, *(moved * w for w in (1 - sum(weights), *weights)))


class Weighted(Sampler):
    """A rule that looks up the weights of a step by the noise levels where it begins and ends.

    For a step that has no weights of its own, or one with too few values to remember, it takes the
    weights of exponential Adams-Bashforth of order 4, and at either end those of first order.
    """

    @abstractmethod
    def weights_between(self, start: float, end: float) -> Weights | None:
        """The weights, between two sigma/alpha, of the values of eps_hat before the newest.

        The newest has what is left to 1. None: the step is none of the rule's own.
        """

    @property
    @abstractmethod
    def longest(self) -> int:
        """How many values are remembered."""

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule, t_now, t_then = denoiser.schedule, float(t), float(s)
        now, then = level(schedule, t_now), level(schedule, t_then)
        x0_hat = denoiser(x, t)
        if now.alpha * then.alpha == 0:
            return first_order(x, x0_hat, now, then), None
        memory = ((t_now, noise_of(x, x0_hat, now)), *(memory or ()))[: self.longest]
        return self._moved(schedule, x, x0_hat, memory, now, then, t_then), memory

    def last(self, denoiser: Denoiser, x: Tensor, t: Tensor, memory: Memory) -> Tensor:
        schedule, t_now = denoiser.schedule, float(t)
        now, x0_hat = level(schedule, t_now), denoiser(x, t)
        memory = ((t_now, noise_of(x, x0_hat, now)), *(memory or ()))
        return self._moved(schedule, x, x0_hat, memory, now, CLEAN, 0.0)

    def _moved(
        self,
        schedule: Schedule,
        x: Tensor,
        x0_hat: Tensor,
        memory: Past,
        now: Level,
        then: Level,
        t_then: float,
    ) -> Tensor:
        times, fields = zip(*memory, strict=True)
        weights = self.weights_between(rounded(now.ratio), rounded(then.ratio))
        if weights is not None and len(weights) < len(memory):
            own = factors(weights, now, then)
        elif inner(now, then):
            own = coefficients(ELSEWHERE, schedule, times[: ELSEWHERE.order], times[0], t_then)
        else:
            return first_order(x, x0_hat, now, then)
        return combine(x, own, fields[: len(own) - 1])


@dataclass(frozen=True)
class NonStationary(Weighted):
    """Noise levels for a number of steps, and for each step its weights.

    n - 1 levels, sigma/alpha, are for n steps: the first goes from the start to the first level,
    the last from the last level to sigma = 0. Row i of `weights` is for the step from level i: the
    weights of the values of eps_hat before the newest, the latest of them first; the newest has
    what is left to 1. No row may be longer than the steps before it, i + 1. Without levels of its
    own it takes any number of steps, on the grid "log-snr".

    Raises:
        UndiffuseError: levels that do not fall; not one row for each level; a row that is too long
            or holds what is no number.

    Source: Shaul et al. 2024 (arXiv 2403.01329). `undiffuse tune` makes one for a model.

    >>> rule = NonStationary((3.0, 0.5), weights=((-0.2,), (-0.4, 0.1)))
    >>> rule.grid
    Levels(noise_levels=(3.0, 0.5), noise_max=80.0)
    """

    name: ClassVar[str] = "non-stationary"
    noise_levels: tuple[float, ...] = ()
    weights: tuple[Weights, ...] = ()
    noise_max: float = 80.0

    def __post_init__(self) -> None:
        levels = Levels(self.noise_levels, self.noise_max).noise_levels
        object.__setattr__(self, "noise_levels", levels)
        object.__setattr__(self, "weights", tuple(map(tuple, self.weights)))
        lengths = [len(row) for row in self.weights]
        rule = "a row of numbers for each noise level, row i with at most i + 1 of them"
        fits = len(lengths) == len(self.noise_levels)
        fits = fits and all(length <= i + 1 for i, length in enumerate(lengths))
        check(fits and finite(*(w for row in self.weights for w in row)), self, "weights", rule)

    @functools.cached_property
    def grid(self) -> Grid | str:  # type: ignore[override]
        """The times of its steps."""
        return Levels(self.noise_levels, self.noise_max) if self.noise_levels else "log-snr"

    @functools.cached_property
    def rows(self) -> Rows:
        """The weights of each step by the noise levels where it begins and ends."""
        return rows_of(self.noise_levels, self.weights)

    def weights_between(self, start: float, end: float) -> Weights | None:
        return self.rows.get((start, end))

    @functools.cached_property
    def longest(self) -> int:
        return max([ELSEWHERE.order, *(len(row) + 1 for row in self.weights)])

    @classmethod
    def adams(
        cls, noise_levels: Sequence[float], order: int = 4, noise_max: float = 80.0
    ) -> NonStationary:
        """Exponential Adams-Bashforth on these levels, written as weights.

        The polynomial in log-SNR cannot reach sigma = 0: one in sigma/alpha makes the last step.
        """
        levels = (noise_max, *noise_levels)
        weights = []
        for i in range(1, len(noise_levels)):
            knots = [math.log(level) for level in levels[: i + 1][-order:][::-1]]
            begin, end = knots[0], math.log(levels[i + 1])
            own = multistep_weights(knots, begin, end)
            weights.append(tuple(w / math.expm1(end - begin) for w in own[1:]))
        if noise_levels:
            knots = list(levels[-min(NODES, order) :][::-1])
            weights.append(tuple(to_zero(knots)[1:]))
        return cls(tuple(noise_levels), tuple(weights), noise_max)


def to_zero(knots: Sequence[float]) -> list[float]:
    """w_j = mean of l_j over [0, knots[0]]: the weight of the value at sigma/alpha = knots[j].

    >>> [round(w, 6) for w in to_zero([1.0, 2.0])]  # a line: f(1/2) = 3/2 f(1) - 1/2 f(2)
    [1.5, -0.5]
    """
    means = []
    for j, knot in enumerate(knots):
        others = [other for i, other in enumerate(knots) if i != j]
        basis = Polynomial.fromroots(others) if others else Polynomial([1.0])
        scale = knots[0] * math.prod(knot - other for other in others)
        means.append(float(basis.integ()(knots[0])) / scale)
    return means


def adams_weights(knots: Tensor, end: Tensor | None) -> Tensor:
    """The weights of `NonStationary.adams` in a step, differentiable in the levels' logarithms.

    knots is [p], the newest first; the step goes from the first of them to `end`, or, if that is
    None, to sigma = 0. The result is [p] and sums to 1.
    """
    place, share = (torch.tensor(v).to(knots) for v in leggauss(8))
    if end is None:  # a polynomial in sigma/alpha, of at most three values
        knots = knots[:NODES].exp()
        points, share = knots[0] * (place + 1) / 2, share / 2
    else:  # one in its logarithm
        points = knots[0] + (end - knots[0]) * (place + 1) / 2
        share = share * (points - knots[0]).exp()
        share = share / share.sum()
    bases = []
    for j in range(len(knots)):
        others = torch.cat([knots[:j], knots[j + 1 :]])
        bases.append(((points[:, None] - others) / (knots[j] - others)).prod(1))
    return torch.stack(bases) @ share
