r"""What every noise schedule is, and what follows from it.

A schedule fixes the forward process

    x_t = alpha(t) x_0 + sigma(t) eps,    eps ~ N(0, I),    t in [0, 1],

where time 0 is data and time 1 is noise. alpha(t)^2 is the lectures' \bar\alpha_t; their one-step
factor is alpha_k = (alpha(t_k) / alpha(t_{k-1}))^2. From alpha and sigma the base derives

    snr(t) = alpha^2 / sigma^2               the signal-to-noise ratio,
    log_snr(t) = log(alpha^2 / sigma^2)      the logarithm (natural) of the signal-to-noise ratio,
    t_from_log_snr                           its inverse,
    alpha_rate, sigma_rate, log_snr_rate     d/dt of alpha, sigma, log_snr.

Everything is computed and returned in float64, whatever t comes in.

Sources: Kingma et al. 2021 (arXiv 2107.00630), Karras et al. 2022 (arXiv 2206.00364).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import jvp

Time = Tensor | float


def as_time(t: Time) -> Tensor:
    """t as a float64 tensor on its own device."""
    return torch.as_tensor(t, dtype=torch.float64)


class Schedule(ABC):
    """A noise schedule: alpha(t) and sigma(t) for t in [0, 1], of any shape, in float64.

    Subclasses are frozen dataclasses. log_snr must fall strictly with t.
    """

    name: ClassVar[str]

    @property
    def first(self) -> float:
        """The first time with a noise level of its own: 0, or 1 / T for a chain of T steps."""
        return 0.0

    @abstractmethod
    def alpha(self, t: Time) -> Tensor:
        """The factor of the data, in [0, 1]; same shape as t."""

    @abstractmethod
    def sigma(self, t: Time) -> Tensor:
        """The standard deviation of the noise, >= 0; same shape as t."""

    def log_snr(self, t: Time) -> Tensor:
        """log(alpha(t)^2 / sigma(t)^2): falls from +inf (or a finite value) at t = 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def snr(self, t: Time) -> Tensor:
        r"""alpha(t)^2 / sigma(t)^2, the signal-to-noise ratio; \bar\alpha_t / (1 - \bar\alpha_t).

        It is the c(t) of |eps_hat - eps|^2 = c(t) |x0_hat - x_0|^2 at the same x_t.

        Source: Kingma et al. 2021 (arXiv 2107.00630); lecture 004, exercise 2.
        """
        return (self.alpha(t) / self.sigma(t)).square()

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        """The t in [0, 1] at which `log_snr(t)` has the given value, by bisection.

        Values outside the schedule's range give the nearer end, 0 or 1. Families with a closed form
        override this.
        """
        target = as_time(log_snr)
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(80):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) < target
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return torch.where(target == self.log_snr(high), high, low)

    def alpha_rate(self, t: Time) -> Tensor:
        """d alpha / dt."""
        return _rate(self.alpha, t)

    def sigma_rate(self, t: Time) -> Tensor:
        """d sigma / dt (infinite where sigma starts like sqrt(t))."""
        return _rate(self.sigma, t)

    def log_snr_rate(self, t: Time) -> Tensor:
        """d log_snr / dt, negative."""
        return _rate(self.log_snr, t)


def _rate(function: Callable[[Tensor], Tensor], t: Time) -> Tensor:
    t = as_time(t)
    rate: Tensor = jvp(function, (t,), (torch.ones_like(t),))[1]
    return rate
