"""How much the error at each noise level counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


class Weight(ABC):
    """w(log_snr) of the loss  w |eps_hat - eps|^2, whatever the network predicts.

    A weight of |x0_hat - x_0|^2 is w times sigma^2/alpha^2. Frozen dataclasses.
    """

    name: ClassVar[str]

    @abstractmethod
    def log_weight(self, log_snr: Tensor) -> Tensor:
        """log w at each log-SNR, same shape; the objective clips log_snr to [-60, 60]."""
