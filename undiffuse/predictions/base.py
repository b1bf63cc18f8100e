r"""Prediction = preconditioning = one affine map.

Whatever a network F predicts, the denoised sample is

    x0_hat = skip(t) x_t + out(t) F( scale(t) x_t, c_noise(t) ),

so a kind of prediction is a row of four functions of alpha_t and sigma_t:

    skip, out       the affine map,
    scale           1 / sqrt(alpha^2 sigma_data^2 + sigma^2): unit variance at the input,
    target          what F has to learn, (x_0 - skip x_t) / out, written without its 0 / 0,
    log_gain        log of g in  |eps_hat - eps| = g |F - target|,  from the log-SNR.

Losses are taken in F's space; a weight of the noise error becomes weight * g^2 there.

Sources: Karras et al. 2022 (arXiv 2206.00364), Salimans & Ho 2022 (arXiv 2202.00512).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite


@dataclass(frozen=True)
class Prediction(ABC):
    """A row of the table above. `sigma_data` is the standard deviation of the data.

    All methods take float64 alpha and sigma (a scalar or [B]) and return the same shape, except
    `target`, which takes values already laid over the samples.
    """

    name: ClassVar[str]
    needs_signal: ClassVar[bool] = False  # whether alpha = 0 must be refused
    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        check(finite(self.sigma_data) and self.sigma_data > 0, self, "sigma_data", "positive")

    def scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1 / sqrt(alpha^2 sigma_data^2 + sigma^2)."""
        return torch.rsqrt((alpha * self.sigma_data) ** 2 + sigma**2)

    @abstractmethod
    def skip(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The factor of x_t in x0_hat."""

    @abstractmethod
    def out(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The factor of F in x0_hat."""

    @abstractmethod
    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What F should be for x_t = alpha x_0 + sigma noise."""

    @abstractmethod
    def log_gain(self, log_snr: Tensor, sigma: Tensor) -> Tensor:
        """log(alpha |out| / sigma), by which an error of F grows into an error of the noise."""
