r"""The sigmoid schedule: \bar\alpha falls like a piece of the logistic curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from undiffuse.catalogue import check, finite
from undiffuse.schedules.base import Schedule, Time, as_time


@dataclass(frozen=True)
class Sigmoid(Schedule):
    r"""alpha(t)^2 = (v(1) - v(t)) / (v(1) - v(0)), v(t) = sigmoid((start + t (end - start)) / tau).

    Variance preserving, rescaled so that alpha(0) = 1 and alpha(1) = 0 exactly. tau stretches the
    ends: a small tau leaves the data alone for long and falls steeply; a large one is linear.
    With a = start / tau, b = end / tau, z = a + t (b - a) and h = (b - a) / 2 the differences of
    logistic functions are written

        alpha^2 = sinh((1 - t) h) cosh(a/2) / (sinh(h) cosh(z/2)),
        sigma^2 = sinh(t h) cosh(b/2) / (sinh(h) cosh(z/2)),

    which cancel nowhere, and whose ratio has no z, so that the inverse is in closed form.

    Raises:
        UndiffuseError: unless start < end and tau > 0, finite.

    Source: Jabri et al. 2022 (arXiv 2212.11972), without the clipping at 1e-9.

    >>> Sigmoid().alpha(1.0).item(), Sigmoid().log_snr(0.5).item()
    (0.0, 0.0)
    """

    name: ClassVar[str] = "sigmoid"
    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        check(finite(self.start), self, "start", "a finite number")
        check(finite(self.end) and self.end > self.start, self, "end", "larger than start")
        check(finite(self.tau) and self.tau > 0, self, "tau", "positive")

    def _ends(self) -> tuple[Tensor, Tensor, float]:
        a, b = self.start / self.tau, self.end / self.tau
        halves = torch.tensor([a / 2, b / 2], dtype=torch.float64)
        return halves[0], halves[1], (b - a) / 2

    def _log_width(self, t: Tensor) -> Tensor:
        """log(sinh(h) cosh(z/2)), the denominator."""
        a_half, b_half, h = self._ends()
        return _log_sinh(torch.full_like(t, h)) + _log_cosh((1 - t) * a_half + t * b_half)

    def alpha(self, t: Time) -> Tensor:
        t = as_time(t)
        a_half, _, h = self._ends()
        above = _log_sinh((1 - t) * h) + _log_cosh(a_half)
        return torch.exp((above - self._log_width(t)) / 2).clamp(max=1)

    def sigma(self, t: Time) -> Tensor:
        t = as_time(t)
        _, b_half, h = self._ends()
        above = _log_sinh(t * h) + _log_cosh(b_half)
        return torch.exp((above - self._log_width(t)) / 2).clamp(max=1)

    def log_snr(self, t: Time) -> Tensor:
        t = as_time(t)
        a_half, b_half, h = self._ends()
        tilt = _log_cosh(a_half) - _log_cosh(b_half)
        return _log_sinh((1 - t) * h) - _log_sinh(t * h) + tilt

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        a_half, b_half, h = self._ends()
        ratio = as_time(log_snr) + _log_cosh(b_half) - _log_cosh(a_half)  # log sinh / sinh
        twice_sinh = h + math.log(-math.expm1(-2 * h))  # log(e^h - e^-h)
        x = twice_sinh - torch.logaddexp(ratio, torch.full_like(ratio, -h))
        return (softplus(x, threshold=700) / (2 * h)).clamp(0, 1)


def _log_sinh(x: Tensor) -> Tensor:
    return x + torch.log(-torch.expm1(-2 * x)) - math.log(2)


def _log_cosh(x: Tensor) -> Tensor:
    return x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - math.log(2)
