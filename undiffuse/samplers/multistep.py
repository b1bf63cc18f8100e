r"""One kernel for every linear multistep rule of the probability-flow ODE, with four choices.

With (f, a, b) = (eps_hat, alpha, sigma) or (x0_hat, sigma, alpha) the flow is, in either form,

    x_s / a_s = x_t / a_t + int f d(b/a).

A rule puts a polynomial through the last values of f and integrates it. Its choices are data:

    interpolated  f: "noise" or "data";
    variable      what the polynomial is in: "log-snr", "sigma/alpha" or "time";
    integral      "exact", or a paper's short form: a polynomial's mean over the step in log-SNR
                  times B(h), which is h ("bh1") or e^h - 1 ("bh2"), h the step in log(alpha/sigma);
    order         how many values.

In v = log(b/a) the measure is d(b/a) = (b/a) dv, so a step in x is (a_s / a_t) (x_t + b_t sum_j w_j
f_j) with w_j = int l_j(v) exp(v - v_t) dv, l_j the Lagrange polynomials, by Gauss-Legendre
quadrature. One value gives sum_j w_j = exp(v_s - v_t) - 1, which is DDIM in either form.

Sources: Zhang & Chen 2023 (DEIS, arXiv 2204.13902); Lu et al. 2022 (DPM-Solver++, arXiv
2211.01095); Zhao et al. 2023 (UniPC, arXiv 2302.04867).
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.levels import first_order, inner, level, noise_of
from undiffuse.schedules.base import Schedule

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)  # exact to rounding for |v_s - v_t| < 20

Values = NDArray[np.float64]


class Choices(NamedTuple):
    """The four choices that make a rule."""

    interpolated: str
    variable: str
    integral: str
    order: int


def multistep_weights(
    knots: Sequence[float],
    start: float,
    end: float,
    integral: str = "exact",
    place: Callable[[Values], Values] = np.asarray,
) -> list[float]:
    r"""w_j = int_start^end l_j(v) exp(v - start) dv: the weight of the value at knot j.

    Args:
        knots: v where the values were taken, the newest first.
        start: v at the beginning of the step.
        end: v at its end.
        integral: "exact"; "bh1" or "bh2" take B times the mean of l_j for j > 0, with
            B = h exp(h) or exp(h) - 1, h = end - start.
        place: the variable of the polynomial as a function of v; default: v.

    Returns:
        The weights; they sum to exp(end - start) - 1.

    >>> [round(w, 6) for w in multistep_weights([0.0], 0.0, 1.0)]  # e - 1
    [1.718282]
    """
    h = end - start
    v = start + h * (NODES + 1) / 2
    whole = math.expm1(h)
    measure = {
        "exact": h / 2 * WEIGHTS * np.exp(v - start),
        "bh1": h * math.exp(h) / 2 * WEIGHTS,
        "bh2": whole / 2 * WEIGHTS,
    }[integral]
    points, at = place(v), place(np.asarray(knots)).tolist()
    others = []
    for j in range(1, len(at)):
        basis = np.ones_like(v)
        for i, other in enumerate(at):
            if i != j:
                basis = basis * (points - other) / (at[j] - other)
        others.append(float(basis @ measure))
    return [whole - sum(others), *others]


@functools.lru_cache(maxsize=8192)  # the steps of many long runs
def coefficients(
    choices: Choices, schedule: Schedule, times: tuple[float, ...], t: float, s: float
) -> tuple[float, ...]:
    """(c, c_0, c_1, ...) of x_s = c x_t + sum_j c_j f_j, with f_j taken at times[j].

    The step goes from t to s, both with finite log-SNRs.
    """
    sign = -1 if choices.interpolated == "noise" else 1
    now, then = level(schedule, t), level(schedule, s)
    places: dict[str, Callable[[Values], Values]] = {
        "log-snr": np.asarray,
        "sigma/alpha": lambda v: np.exp(-sign * v),
        "time": lambda v: schedule.t_from_log_snr(torch.from_numpy(2 * sign * v)).numpy(),
    }
    start, end = sign * now.log_snr / 2, sign * then.log_snr / 2
    knots = [sign * level(schedule, u).log_snr / 2 for u in times]
    place = places[choices.variable]
    weights = multistep_weights(knots, start, end, choices.integral, place)
    if choices.interpolated == "noise":
        on_x, on_f = then.alpha / now.alpha, then.alpha / now.alpha * now.sigma
    else:
        on_x, on_f = then.sigma / now.sigma, then.sigma / now.sigma * now.alpha
    return (on_x, *(on_f * weight for weight in weights))


def combine(x: Tensor, factors: Sequence[float], fields: Sequence[Tensor]) -> Tensor:
    """c x + sum_j c_j f_j, [B, ...]; factors (c, c_0, ...)."""
    moved = factors[0] * x
    for factor, f in zip(factors[1:], fields, strict=True):
        moved.add_(f, alpha=factor)
    return moved


class Multistep(Sampler):
    """A rule that remembers the last values of eps_hat or x0_hat and asks once per step.

    It starts with the values there are. A step from or to alpha = 0 or to sigma = 0 is first order.
    """

    @property
    @abstractmethod
    def choices(self) -> Choices:
        """The four choices of the kernel."""

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule, choices, t_now, t_then = denoiser.schedule, self.choices, float(t), float(s)
        now, then = level(schedule, t_now), level(schedule, t_then)
        x0_hat = denoiser(x, t)
        if not inner(now, then):
            return first_order(x, x0_hat, now, then), None
        f = noise_of(x, x0_hat, now) if choices.interpolated == "noise" else x0_hat
        memory = ((t_now, f), *(memory or ()))[: choices.order]
        times, fields = zip(*memory, strict=True)
        return combine(x, coefficients(choices, schedule, times, t_now, t_then), fields), memory
