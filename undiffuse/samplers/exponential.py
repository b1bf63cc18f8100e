r"""Multistep exponential integrators: one kernel for the whole family.

In y = x / alpha and s = sigma / alpha the probability-flow ODE is dy/ds = eps_hat, so a step is

    y(s_1) = y(s_0) + int_{s_0}^{s_1} eps_hat ds.

An Adams-Bashforth rule replaces eps_hat by the polynomial through its last values and integrates
that exactly. Taking the polynomial in log s (that is, in log-SNR) suits noise levels that fall
geometrically; the factor ds = s dlog(s) makes the integrator exponential: with one value it is
DDIM. The weights are integrals of Lagrange polynomials, computed by Gauss-Legendre quadrature.

Sources: Zhang & Chen 2023 (DEIS, arXiv 2204.13902), Lu et al. 2022 (arXiv 2206.00927).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.catalogue import check
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)  # exact to rounding for |log(s1/s0)| < 20


def multistep_weights(knots: Sequence[float], start: float, end: float) -> list[float]:
    r"""w_j = int_start^end l_j(u) exp(u - start) du: the weight of the value at knot j.

    l_j is the Lagrange polynomial that is 1 at knots[j] and 0 at the other knots. All are values
    of u = log(sigma / alpha). With one knot w = exp(end - start) - 1.

    >>> [round(w, 6) for w in multistep_weights([0.0], 0.0, 1.0)]  # e - 1
    [1.718282]
    """
    u = start + (end - start) * (NODES + 1) / 2
    measure = (end - start) / 2 * WEIGHTS * np.exp(u - start)
    weights = []
    for j, knot in enumerate(knots):
        basis = np.ones_like(u)
        for i, other in enumerate(knots):
            if i != j:
                basis *= (u - other) / (knot - other)
        weights.append(float(basis @ measure))
    return weights


@dataclass(frozen=True)
class ExponentialAdams(Sampler):
    r"""Exponential Adams-Bashforth in eps_hat, polynomial in log-SNR; order 3 is the default.

    x_s / alpha_s = x_t / alpha_t + (sigma_t / alpha_t) sum_j w_j eps_hat_j, over the last `order`
    evaluations (fewer at the start). A step from or to alpha = 0 or to sigma = 0 is first order.

    Raises:
        UndiffuseError: order outside 1 ... 4.

    Source: Zhang & Chen 2023 (arXiv 2204.13902), tAB-DEIS in log-SNR.
    """

    name: ClassVar[str] = "exponential-adams"
    order: int = 3

    def __post_init__(self) -> None:
        check(self.order in {1, 2, 3, 4}, self, "order", "1, 2, 3 or 4")

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule = denoiser.schedule
        alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
        alpha_s, sigma_s = schedule.alpha(s), schedule.sigma(s)
        x0_hat = denoiser(x, t)
        eps_hat = (x - over(alpha_t, x) * x0_hat) / over(sigma_t, x)
        if bool(alpha_t * alpha_s * sigma_s == 0):
            return over(alpha_s, x) * x0_hat + over(sigma_s, x) * eps_hat, None
        start, end = (-float(schedule.log_snr(u)) / 2 for u in (t, s))
        memory = ((start, eps_hat), *(memory or ()))[: self.order]
        weights = multistep_weights([knot for knot, _ in memory], start, end)
        moved = torch.zeros_like(x)
        for weight, (_, eps) in zip(weights, memory, strict=True):
            moved = torch.add(moved, eps, alpha=weight)
        ratio = alpha_s / alpha_t
        return over(ratio, x) * (x + over(sigma_t, x) * moved), memory
