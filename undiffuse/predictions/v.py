"""F is v, the velocity on the circle between data and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from undiffuse.predictions.base import Prediction


@dataclass(frozen=True)
class V(Prediction):
    """F = (alpha eps - sigma x_0) / r with r = sqrt(alpha^2 + sigma^2), of unit variance.

    skip alpha / r^2, out -sigma / r, gain alpha / r = sqrt(sigmoid(log_snr)). For a
    variance-preserving schedule r = 1 and F is the v of the paper.

    Source: Salimans & Ho 2022 (arXiv 2202.00512).
    """

    name: ClassVar[str] = "v"

    def skip(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha / (alpha**2 + sigma**2)

    def out(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return -sigma * torch.rsqrt(alpha**2 + sigma**2)

    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (alpha * noise - sigma * x_0) * torch.rsqrt(alpha**2 + sigma**2)

    def log_gain(self, log_snr: Tensor, sigma: Tensor) -> Tensor:
        return logsigmoid(log_snr) / 2
