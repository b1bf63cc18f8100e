r"""A schedule that ends in pure noise, made from one that leaves a rest of the data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Time, as_time
from undiffuse.schedules.view import View


@dataclass(frozen=True)
class ZeroTerminalSNR(View):
    r"""a'(t) = a_f (a(t) - a_1) / (a_f - a_1), which keeps a_f = a(f) and takes a(1) = a_1 to 0.

    a = alpha / sqrt(alpha^2 + sigma^2) is the root of \bar\alpha, equal to alpha where the schedule
    preserves the variance; the result does. f is the first time with a noise level of its own: 1/T
    for a chain of T steps, for which a'(k/T), k = 1 ... T, is the paper's list, and 0 otherwise.
    Before f nothing changes. A schedule that ends in pure noise already stays as it is.

    At the end noise says nothing about the data: noise and score prediction are refused there, v,
    edm, flow and data prediction work.

    Raises:
        UndiffuseError: `schedule` is no schedule, or a chain of a single step.

    Source: Lin et al. 2023 (arXiv 2305.08891), algorithm 1.

    >>> from undiffuse.schedules.discrete import Discrete
    >>> chain = ZeroTerminalSNR(Discrete.linear(1000))
    >>> chain.alpha(1.0).item(), round(chain.alpha(0.001).item() ** 2, 9)
    (0.0, 0.9999)
    """

    name: ClassVar[str] = "zero-terminal-snr"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.schedule.first < 1:
            raise UndiffuseError(
                "ZeroTerminalSNR: a chain of one step cannot keep its first noise level and end in"
                " pure noise; give it more steps"
            )

    @property
    def first(self) -> float:
        return self.schedule.first

    def _rest(self, t: Time) -> tuple[Tensor, Tensor]:
        """a(t) and 1 - a(t), the second without cancellation."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        length = torch.hypot(alpha, sigma)
        return alpha / length, sigma**2 / (length * (length + alpha))

    @cached_property
    def _ends(self) -> tuple[float, float, float]:
        """1 - a_f, a_1, and the stretch a_f / (a_f - a_1)."""
        (a_f, gap_f), (a_1, _) = self._rest(self.first), self._rest(1.0)
        return float(gap_f), float(a_1), float(a_f / (a_f - a_1))

    def _rescaled(self, t: Time) -> tuple[Tensor, Tensor]:
        """a'(t) and 1 - a'(t)."""
        t = as_time(t)
        a, gap = self._rest(t)
        gap_f, a_1, stretch = self._ends
        early = t <= self.first
        smooth = torch.where(early, a, (a - a_1) * stretch)
        exact = torch.where(t == 1, 0.0, smooth.clamp(0, 1))
        a = smooth + (exact - smooth).detach()  # to the bit at t = 1, and with its slope
        return a, torch.where(early, gap, gap_f + (gap - gap_f) * stretch)

    def alpha(self, t: Time) -> Tensor:
        return self._rescaled(t)[0]

    def sigma(self, t: Time) -> Tensor:
        gap = self._rescaled(t)[1]
        return torch.sqrt(gap * (2 - gap)).clamp(max=1)

    def log_snr(self, t: Time) -> Tensor:
        a, gap = self._rescaled(t)
        return 2 * a.log() - torch.log(gap * (2 - gap))

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        log_snr = as_time(log_snr)
        gap_f, a_1, stretch = self._ends
        a = torch.sqrt(torch.sigmoid(log_snr))  # a', and then a
        gap = torch.sigmoid(-log_snr) / (1 + a)
        late = gap > gap_f
        a, gap = (
            torch.where(late, a / stretch + a_1, a),
            torch.where(late, gap_f + (gap - gap_f) / stretch, gap),
        )
        return self.schedule.t_from_log_snr(2 * a.log() - (gap * (2 - gap)).log())
