"""How the training time t is drawn."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from undiffuse.schedules.base import Schedule


class Times(ABC):
    """A distribution of t, given by its quantile function. Frozen dataclasses."""

    name: ClassVar[str]

    @abstractmethod
    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        """t in [0, 1] for u uniform in [0, 1), float64 [B].

        Stratified u (one in each of B equal intervals) give stratified t: less noise in the loss.
        """

    def log_snr_range(self, schedule: Schedule) -> tuple[float, float]:
        """The log-SNRs that training sees (lowest, highest).

        Unless the distribution says otherwise, the schedule's own, cut at sigma/alpha = 0.002 and
        160: beyond, data of unit scale is intact to 8 bits, or drowned.
        """
        low, high = float(schedule.log_snr(1.0)), float(schedule.log_snr(0.0))
        return max(low, -2 * math.log(160)), min(high, -2 * math.log(0.002))
