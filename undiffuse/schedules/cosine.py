"""The cosine schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.schedules.base import Schedule, Time, as_time


@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha(t) = cos(pi t / 2), sigma(t) = sin(pi t / 2); log_snr = -2 log tan(pi t / 2).

    Exact at both ends: alpha(1) = 0 and sigma(0) = 0.

    Source: Nichol & Dhariwal 2021 (arXiv 2102.09672) without its offset, as in Salimans & Ho 2022
    (arXiv 2202.00512).

    >>> Cosine().alpha(1.0).item()
    0.0
    """

    name: ClassVar[str] = "cosine"

    def alpha(self, t: Time) -> Tensor:
        return torch.sin((1 - as_time(t)) * (math.pi / 2))

    def sigma(self, t: Time) -> Tensor:
        return torch.sin(as_time(t) * (math.pi / 2))

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        return torch.atan(torch.exp(-as_time(log_snr) / 2)) * (2 / math.pi)
