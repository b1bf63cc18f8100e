r"""The loss as an integral over log-SNR, however t is drawn.

    L = 1/2 int w(lambda) E|eps_hat - eps|^2 dlambda
      = E_{t ~ p}  |dlambda/dt| / (2 p(t))  w(lambda) |eps_hat - eps|^2

does not depend on the schedule's shape nor on p, only on the ends; they decide how much the
estimate scatters. With w = 1 it is the continuous-time evidence lower bound without its two end
terms; with a falling w it is a bound for data under small noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, check_span
from undiffuse.objectives.times.base import Times, log_snr_ends
from undiffuse.objectives.times.uniform import Uniform
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class Integral(Times):
    """t as `drawn`, counted as 1/2 dlog_snr: nats per dimension with Simple().

    correction = |dlog_snr/dt| / (2 p(t)) between sigma/alpha = noise_max and noise_min (or the
    schedule's nearer ends), 0 outside. `drawn` must reach all that lies between.

    Raises:
        UndiffuseError: unless 0 < noise_min < noise_max.

    Source: Kingma et al. 2021 (arXiv 2107.00630); Kingma & Gao 2023 (arXiv 2303.00848).

    >>> from undiffuse.schedules.flow import Flow  # dlog_snr/dt = -2 / (t (1 - t))
    >>> Integral().correction(torch.tensor([0.25, 0.5], dtype=torch.float64), Flow()).tolist()
    [5.33..., 4.0]
    """

    name: ClassVar[str] = "integral"
    drawn: Times = Uniform()  # noqa: RUF009 (frozen)
    noise_min: float = 0.002
    noise_max: float = 160.0

    def __post_init__(self) -> None:
        check(isinstance(self.drawn, Times), self, "drawn", "a distribution of times")
        check_span(self, "noise_min", "noise_max")

    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.drawn.times(u, schedule)

    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        return self.drawn.density(t, schedule)

    def measure(self, t: Tensor, schedule: Schedule) -> Tensor:
        """|dlog_snr/dt| / 2 between the ends, 0 outside."""
        low, high = self.log_snr_range(schedule)
        log_snr = schedule.log_snr(t)
        inside = (log_snr >= low - 1e-9) & (log_snr <= high + 1e-9)  # the ends, as t rounds them
        return torch.where(inside, -schedule.log_snr_rate(t) / 2, 0.0)

    def correction(self, t: Tensor, schedule: Schedule) -> Tensor:
        """measure / density."""
        measure = self.measure(t, schedule)
        return torch.where(measure == 0, 0.0, measure / self.density(t, schedule))

    def updated(self, u: Tensor, loss: Tensor, schedule: Schedule) -> Times:
        """With `drawn` updated."""
        return replace(self, drawn=self.drawn.updated(u, loss, schedule))

    def log_snr_range(self, schedule: Schedule) -> tuple[float, float]:
        """The ends of the integral."""
        return log_snr_ends(schedule, self.noise_min, self.noise_max)
