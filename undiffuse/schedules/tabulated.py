"""A schedule given by a table of log-SNRs, such as a learned one that was frozen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.schedules.base import Schedule, Time, as_time


@dataclass(frozen=True, repr=False)
class Tabulated(Schedule):
    """log_snr(t) linear between values at n + 1 equally spaced times; alpha^2 = sigmoid(log_snr).

    Variance preserving. Value i stands at t = i / n. The table is finite, so p_0 is slightly noisy
    data and p_1 keeps a trace of it.

    Raises:
        UndiffuseError: fewer than two values, or values that are not finite or do not fall.

    Source: as frozen from `networks.monotone`, Kingma et al. 2021 (arXiv 2107.00630).

    >>> Tabulated((6.0, 0.0, -4.0)).log_snr(0.75).item()
    -2.0
    """

    name: ClassVar[str] = "tabulated"
    log_snrs: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_snrs", tuple(self.log_snrs))
        fall = len(self.log_snrs) >= 2 and finite(*self.log_snrs)
        fall = fall and all(a > b for a, b in pairwise(self.log_snrs))
        check(fall, self, "log_snrs", "at least two finite numbers that fall")

    def __repr__(self) -> str:
        first, last = self.log_snrs[0], self.log_snrs[-1]
        return f"Tabulated(<{len(self.log_snrs)} log-SNRs from {first:.4g} to {last:.4g}>)"

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        return np.array(self.log_snrs, dtype=np.float64)

    def _knots(self, like: Tensor) -> Tensor:
        return torch.from_numpy(self._table).to(like.device)  # [n + 1]

    def alpha(self, t: Time) -> Tensor:
        return torch.sqrt(torch.sigmoid(self.log_snr(t)))

    def sigma(self, t: Time) -> Tensor:
        return torch.sqrt(torch.sigmoid(-self.log_snr(t)))

    def log_snr(self, t: Time) -> Tensor:
        t = as_time(t)
        knots, n = self._knots(t), len(self.log_snrs) - 1
        k = (t.detach() * n).floor().clamp(0, n - 1).long()
        return torch.lerp(knots[k], knots[k + 1], t * n - k)

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        value = as_time(log_snr).clamp(self.log_snrs[-1], self.log_snrs[0])
        knots, n = self._knots(value), len(self.log_snrs) - 1
        k = (torch.searchsorted(-knots, -value.contiguous()) - 1).clamp(0, n - 1)
        fraction = (knots[k] - value) / (knots[k] - knots[k + 1])
        return ((k + fraction) / n).clamp(0, 1)
