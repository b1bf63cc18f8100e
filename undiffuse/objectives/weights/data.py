"""The error of the denoised sample counts the same at every noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.objectives.weights.base import Weight


@dataclass(frozen=True)
class Data(Weight):
    """w = exp(-log_snr) = 1 / SNR: |x0_hat - x_0|^2.

    Source: Salimans & Ho 2022 (arXiv 2202.00512), section 4; lecture 004, exercise 2.
    """

    name: ClassVar[str] = "data"

    def log_weight(self, log_snr: Tensor) -> Tensor:
        return -log_snr
