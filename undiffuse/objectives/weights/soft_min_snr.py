"""Min-SNR-gamma with a round corner."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from undiffuse.catalogue import check, finite
from undiffuse.objectives.weights.base import Weight


@dataclass(frozen=True)
class SoftMinSNR(Weight):
    """w = gamma / (SNR + gamma), which is SNR gamma / (SNR + gamma) times |x0_hat - x_0|^2.

    With gamma = 1 / sigma_data^2 and alpha = 1 that is 1 / (sigma^2 + sigma_data^2) of the data
    error, k-diffusion's "soft-min-snr".

    Raises:
        UndiffuseError: unless gamma is positive.

    Source: Crowson et al. 2024 (arXiv 2401.11605), gamma = 4.
    """

    name: ClassVar[str] = "soft-min-snr"
    gamma: float = 4.0

    def __post_init__(self) -> None:
        check(finite(self.gamma) and self.gamma > 0, self, "gamma", "positive")

    def log_weight(self, log_snr: Tensor) -> Tensor:
        return logsigmoid(math.log(self.gamma) - log_snr)
