"""The straight line between data and noise: rectified flow, flow matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.schedules.base import Schedule, Time, as_time


@dataclass(frozen=True)
class Flow(Schedule):
    """alpha(t) = 1 - t, sigma(t) = t, so x_t moves from data to noise along a line.

    Source: Lipman et al. 2023 (arXiv 2210.02747), Liu et al. 2023 (arXiv 2209.03003); there time
    may run the other way.

    >>> Flow().log_snr(0.5).item()
    0.0
    """

    name: ClassVar[str] = "flow"

    def alpha(self, t: Time) -> Tensor:
        return 1 - as_time(t)

    def sigma(self, t: Time) -> Tensor:
        return as_time(t) + 0.0

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        return torch.sigmoid(-as_time(log_snr) / 2)
