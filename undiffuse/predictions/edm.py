"""F is EDM's network: input, output and target of unit variance at every noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from undiffuse.predictions.base import Prediction


@dataclass(frozen=True)
class EDMNetwork(Prediction):
    """With d = sqrt(alpha^2 sigma_data^2 + sigma^2), for any alpha:

    skip alpha sigma_data^2 / d^2,  out sigma sigma_data / d,
    target (sigma x_0 - alpha sigma_data^2 eps) / (d sigma_data),
    gain alpha sigma_data / d = sqrt(sigmoid(log_snr + log sigma_data^2)).

    Source: Karras et al. 2022 (arXiv 2206.00364), table 1, there with alpha = 1.
    """

    name: ClassVar[str] = "edm"
    sigma_data: float = 0.5

    def skip(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * (self.sigma_data * self.scale(alpha, sigma)) ** 2

    def out(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma * self.sigma_data * self.scale(alpha, sigma)

    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        scale = torch.rsqrt((alpha * self.sigma_data) ** 2 + sigma**2)
        return (sigma / self.sigma_data * x_0 - alpha * self.sigma_data * noise) * scale

    def log_gain(self, log_snr: Tensor, sigma: Tensor) -> Tensor:
        return logsigmoid(log_snr + 2 * math.log(self.sigma_data)) / 2
