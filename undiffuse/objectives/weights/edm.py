"""EDM's weight: the same loss at every noise level at the start of training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from undiffuse.catalogue import check, finite
from undiffuse.objectives.weights.base import Weight


@dataclass(frozen=True)
class EDM(Weight):
    """w = 1 + exp(-log_snr) / sigma_data^2: |F - target|^2 for EDM's network.

    In EDM's own terms (alpha = 1) it is (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 times
    |x0_hat - x_0|^2.

    Source: Karras et al. 2022 (arXiv 2206.00364), table 1.
    """

    name: ClassVar[str] = "edm"
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        check(finite(self.sigma_data) and self.sigma_data > 0, self, "sigma_data", "positive")

    def log_weight(self, log_snr: Tensor) -> Tensor:
        return softplus(-log_snr - 2 * math.log(self.sigma_data), threshold=700)
