"""The lectures' log-linear schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import check_span
from undiffuse.schedules.base import Schedule, Time
from undiffuse.schedules.ve import VE


@dataclass(frozen=True)
class LogLinear(Schedule):
    """alpha = 1, log sigma linear in t from log sigma_min to log sigma_max: 0.01 to 100.

    As a function of t this is VE, which is written sigma_min (sigma_max / sigma_min)^t; it differs
    in its name and in its range alone. n uniform times are the lecture's n levels at equal
    distances in log sigma (which it calls lambda; here log-SNR = -2 log sigma). Levels are in the
    units of the data, and p_0 is the data smoothed by sigma_min.

    Raises:
        UndiffuseError: unless 0 < sigma_min < sigma_max, finite.

    Source: lecture 003, "training noise schedules".

    >>> import torch
    >>> LogLinear().sigma(torch.linspace(0, 1, 5))
    tensor([1.0000e-02, 1.0000e-01, 1.0000e+00, 1.0000e+01, 1.0000e+02],
           dtype=torch.float64)
    """

    name: ClassVar[str] = "log-linear"
    sigma_min: float = 0.01
    sigma_max: float = 100.0

    def __post_init__(self) -> None:
        check_span(self, "sigma_min", "sigma_max")

    def _geometric(self) -> VE:
        return VE(self.sigma_min, self.sigma_max)

    def alpha(self, t: Time) -> Tensor:
        return self._geometric().alpha(t)

    def sigma(self, t: Time) -> Tensor:
        return self._geometric().sigma(t)

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        return self._geometric().t_from_log_snr(log_snr)
