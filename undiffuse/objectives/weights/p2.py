"""P2: less weight on the noise levels at which only imperceptible detail is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.objectives.weights.base import Weight


@dataclass(frozen=True)
class P2(Weight):
    """w = 1 / (k + SNR)^gamma.

    gamma = 0 is Simple; k = gamma = 1 is 1 - alpha^2 for a variance-preserving schedule.

    Raises:
        UndiffuseError: unless k > 0 and gamma >= 0.

    Source: Choi et al. 2022 (arXiv 2204.00227), k = 1, gamma = 1 or 0.5.
    """

    name: ClassVar[str] = "p2"
    k: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        check(finite(self.k) and self.k > 0, self, "k", "positive")
        check(finite(self.gamma) and self.gamma >= 0, self, "gamma", "at least 0")

    def log_weight(self, log_snr: Tensor) -> Tensor:
        log_k = torch.full_like(log_snr, math.log(self.k))
        return -self.gamma * torch.logaddexp(log_k, log_snr)
