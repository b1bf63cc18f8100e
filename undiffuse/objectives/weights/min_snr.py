"""Min-SNR-gamma: the data error weighted by its SNR, but never by more than gamma."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.objectives.weights.base import Weight


@dataclass(frozen=True)
class MinSNR(Weight):
    """w = min(SNR, gamma) / SNR, which is min(SNR, gamma) times |x0_hat - x_0|^2.

    Raises:
        UndiffuseError: unless gamma is positive.

    Source: Hang et al. 2023 (arXiv 2303.09556), gamma = 5.
    """

    name: ClassVar[str] = "min-snr"
    gamma: float = 5.0

    def __post_init__(self) -> None:
        check(finite(self.gamma) and self.gamma > 0, self, "gamma", "positive")

    def log_weight(self, log_snr: Tensor) -> Tensor:
        return (math.log(self.gamma) - log_snr).clamp(max=0)
