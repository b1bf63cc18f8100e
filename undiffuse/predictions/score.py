"""F is the score, the gradient of log p_t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.predictions.base import Prediction


@dataclass(frozen=True)
class Score(Prediction):
    """x0_hat = (x_t + sigma^2 F) / alpha (Tweedie): skip 1 / alpha, out sigma^2 / alpha.

    target -eps / sigma, the score of q(x_t | x_0), whose conditional mean is the score of p_t;
    gain sigma. Refused at alpha = 0.

    Source: Song & Ermon 2019 (arXiv 1907.05600); lectures 002, 004.
    """

    name: ClassVar[str] = "score"
    needs_signal: ClassVar[bool] = True

    def skip(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1 / alpha

    def out(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma**2 / alpha

    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return -noise / sigma

    def log_gain(self, log_snr: Tensor, sigma: Tensor) -> Tensor:
        return sigma.log()
