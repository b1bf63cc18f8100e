"""F is the direction from data to noise, as in flow matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from undiffuse.predictions.base import Prediction


@dataclass(frozen=True)
class FlowVelocity(Prediction):
    """F = u = eps - x_0: skip 1 / (alpha + sigma), out -sigma / (alpha + sigma).

    gain alpha / (alpha + sigma) = sigmoid(log_snr / 2). Under the Flow schedule u is dx_t / dt.

    Source: Lipman et al. 2023 (arXiv 2210.02747), Liu et al. 2023 (arXiv 2209.03003).
    """

    name: ClassVar[str] = "flow"

    def skip(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1 / (alpha + sigma)

    def out(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return -sigma / (alpha + sigma)

    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return noise - x_0

    def log_gain(self, log_snr: Tensor, sigma: Tensor) -> Tensor:
        return logsigmoid(log_snr / 2)
