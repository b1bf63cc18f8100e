"""F is the denoised sample itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.predictions.base import Prediction


@dataclass(frozen=True)
class Data(Prediction):
    """x0_hat = F: skip 0, out 1, target x_0, gain alpha / sigma = sqrt(SNR).

    Source: Salimans & Ho 2022 (arXiv 2202.00512); lecture 004, "three equivalent predictions".
    """

    name: ClassVar[str] = "data"

    def skip(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.zeros_like(alpha)

    def out(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(alpha)

    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x_0

    def log_gain(self, log_snr: Tensor, sigma: Tensor) -> Tensor:
        return log_snr / 2
