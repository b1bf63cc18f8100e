"""log-SNR uniform: every factor between two noise levels as often as the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check_span
from undiffuse.errors import UndiffuseError
from undiffuse.objectives.times.base import Times, log_snr_ends
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class UniformLogSNR(Times):
    """log_snr uniform between the schedule's ends, cut at sigma/alpha = noise_max and noise_min.

    With Simple() the loss is the continuous-time bound (Integral) times 2 / (highest - lowest).

    Raises:
        UndiffuseError: unless 0 < noise_min < noise_max; in use: the schedule has no noise between
            them.

    Source: Kingma et al. 2021 (arXiv 2107.00630), where a linear log-SNR and uniform t do it.
    """

    name: ClassVar[str] = "uniform-log-snr"
    noise_min: float = 0.002
    noise_max: float = 160.0

    def __post_init__(self) -> None:
        check_span(self, "noise_min", "noise_max")

    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        low, high = self.log_snr_range(schedule)
        return schedule.t_from_log_snr(low + u * (high - low))

    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        low, high = self.log_snr_range(schedule)
        log_snr = schedule.log_snr(t)
        inside = (log_snr >= low - 1e-9) & (log_snr <= high + 1e-9)  # the ends, as t rounds them
        return torch.where(inside, -schedule.log_snr_rate(t) / (high - low), 0.0)

    def log_snr_range(self, schedule: Schedule) -> tuple[float, float]:
        """From noise_max to noise_min, or the schedule's nearer ends."""
        low, high = log_snr_ends(schedule, self.noise_min, self.noise_max)
        if not low < high:
            raise UndiffuseError(
                f"{self} has no noise level in common with {schedule}: use a lower noise_min or a"
                " higher noise_max"
            )
        return low, high
