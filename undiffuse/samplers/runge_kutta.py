r"""Runge-Kutta rules of the probability-flow ODE, as tableaux.

In y = x / alpha and rho = sigma / alpha the flow is dy/drho = eps_hat. With d = rho_s - rho_t the
rule of a tableau (c, A, b) is

    k_i = eps_hat(y_t + d sum_j A_ij k_j, rho_t + c_i d),      y_s = y_t + d sum_i b_i k_i,

and it costs as many evaluations as it has stages. A step from or to alpha = 0 (rho infinite), or to
sigma = 0 (where eps_hat is not defined), is one first-order step and costs one.

Sources: Butcher 2016; Karras et al. 2022 (arXiv 2206.00364) for this ODE and for Heun's rule.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.levels import first_order, inner, level, noise_of
from undiffuse.samplers.multistep import combine

Row = tuple[float, ...]


class Tableau(NamedTuple):
    """c_i, the rows of A below the diagonal, and b_i."""

    nodes: Row
    rows: tuple[Row, ...]
    weights: Row


class RungeKutta(Sampler):
    """An explicit Runge-Kutta rule in sigma / alpha."""

    @property
    @abstractmethod
    def tableau(self) -> Tableau:
        """The rule."""

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule, (nodes, rows, weights) = denoiser.schedule, self.tableau
        now, then = level(schedule, float(t)), level(schedule, float(s))
        x0_hat = denoiser(x, t)
        if not inner(now, then):
            return first_order(x, x0_hat, now, then), None
        y, d = x / now.alpha, then.ratio - now.ratio
        slopes = [noise_of(x, x0_hat, now)]
        for node, row in zip(nodes[1:], rows[1:], strict=True):
            u = s if node == 1 else schedule.t_from_log_snr(-2 * math.log(now.ratio + node * d))
            at = level(schedule, float(u))
            x_u = at.alpha * combine(y, (1.0, *(d * a for a in row)), slopes)
            slopes.append(noise_of(x_u, denoiser(x_u, u), at))
        return then.alpha * combine(y, (1.0, *(d * b for b in weights)), slopes), None


@dataclass(frozen=True)
class Euler(RungeKutta):
    """Euler's rule in sigma / alpha, first order: the same as DDIM.

    Source: Karras et al. 2022 (arXiv 2206.00364).
    """

    name: ClassVar[str] = "euler"

    @property
    def tableau(self) -> Tableau:
        return Tableau((0,), ((),), (1,))


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Heun's rule in sigma / alpha: EDM's sampler without churn; second order, two evaluations.

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 1.
    """

    name: ClassVar[str] = "heun"

    @property
    def tableau(self) -> Tableau:
        return Tableau((0, 1), ((), (1,)), (1 / 2, 1 / 2))


@dataclass(frozen=True)
class Midpoint(RungeKutta):
    """The midpoint rule in sigma / alpha: second order, two evaluations.

    Source: Butcher 2016.
    """

    name: ClassVar[str] = "midpoint"

    @property
    def tableau(self) -> Tableau:
        return Tableau((0, 1 / 2), ((), (1 / 2,)), (0, 1))


@dataclass(frozen=True)
class RK4(RungeKutta):
    """The classical rule in sigma / alpha: fourth order, four evaluations.

    Source: Kutta 1901.
    """

    name: ClassVar[str] = "rk4"

    @property
    def tableau(self) -> Tableau:
        return Tableau(
            (0, 1 / 2, 1 / 2, 1),
            ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)),
            (1 / 6, 1 / 3, 1 / 3, 1 / 6),
        )
