"""F is the noise, as in DDPM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.predictions.base import Prediction


@dataclass(frozen=True)
class Noise(Prediction):
    r"""x0_hat = (x_t - sigma F) / alpha: skip 1 / alpha, out -sigma / alpha, target eps, gain 1.

    In a discrete chain alpha is sqrt(\bar\alpha_t), with the bar. Refused at alpha = 0, where the
    noise says nothing about the data.

    Source: Ho et al. 2020 (arXiv 2006.11239); lectures 000, 002, 003, 004.
    """

    name: ClassVar[str] = "noise"
    needs_signal: ClassVar[bool] = True

    def skip(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1 / alpha

    def out(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return -sigma / alpha

    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return noise

    def log_gain(self, log_snr: Tensor, sigma: Tensor) -> Tensor:
        return torch.zeros_like(log_snr)
