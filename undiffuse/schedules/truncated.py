"""A piece of a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Schedule, Time, as_time
from undiffuse.schedules.view import View


@dataclass(frozen=True)
class Truncated(View):
    """alpha'(t) = alpha(u), sigma'(t) = sigma(u), with u = (1 - t) t_min + t t_max.

    Between two finite log-SNRs every kind of prediction and every SDE is finite. With t_min > 0,
    p_0 is no longer the data but the noisy data of that time.

    Raises:
        UndiffuseError: `schedule` is no schedule, or not 0 <= t_min < t_max <= 1.

    Source: the cut-off eps of Song et al. 2021 (arXiv 2011.13456), appendix C; the log-SNR range of
    Kingma et al. 2021 (arXiv 2107.00630).

    >>> from undiffuse.schedules.flow import Flow
    >>> Truncated(Flow(), 0.1, 0.9).alpha(1.0).item()
    0.09...
    """

    name: ClassVar[str] = "truncated"
    t_min: float = 0.0
    t_max: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(finite(self.t_min) and 0 <= self.t_min < 1, self, "t_min", "in [0, 1)")
        check(
            finite(self.t_max) and self.t_min < self.t_max <= 1,
            self,
            "t_max",
            "larger than t_min and at most 1",
        )

    @classmethod
    def to_log_snr(cls, schedule: Schedule, lowest: float, highest: float) -> Truncated:
        """The piece of `schedule` with log-SNR from `highest`, at time 0, down to `lowest`.

        Limits outside the schedule's own range leave that end as it is.

        Raises:
            UndiffuseError: the schedule has no log-SNR between the two.

        >>> from undiffuse.schedules.cosine import Cosine
        >>> cut = Truncated.to_log_snr(Cosine(), -5.0, 8.0)
        >>> round(cut.log_snr(0.0).item(), 9), round(cut.log_snr(1.0).item(), 9)
        (8.0, -5.0)
        """
        whole = cls(schedule).schedule
        t_min, t_max = (float(whole.t_from_log_snr(l)) for l in (highest, lowest))
        if not t_min < t_max:
            raise UndiffuseError(
                f"Truncated: {whole} has no log-SNR between {lowest} and {highest}; give the"
                " lowest first, both in its range"
            )
        return cls(schedule, t_min, t_max)

    def _time(self, t: Time) -> Tensor:
        t = as_time(t)
        return (1 - t) * self.t_min + t * self.t_max

    def alpha(self, t: Time) -> Tensor:
        return self.schedule.alpha(self._time(t))

    def sigma(self, t: Time) -> Tensor:
        return self.schedule.sigma(self._time(t))

    def log_snr(self, t: Time) -> Tensor:
        return self.schedule.log_snr(self._time(t))

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        u = self.schedule.t_from_log_snr(log_snr)
        return ((u - self.t_min) / (self.t_max - self.t_min)).clamp(0, 1)
