r"""The moving average of the weights, whose horizon grows with the run.

    ema_n = beta_n ema_{n-1} + (1 - beta_n) w_n,    beta_n = (1 - 1/n)^(gamma + 1),

so after n steps the weight of step i is proportional to (i/n)^gamma: the average always spans the
same fraction of the run, and a short run is not held back by its first steps.

Source: Karras et al. 2024 (arXiv 2312.02696), section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undiffuse.errors import UndiffuseError


def exponent(std: float) -> float:
    """gamma for a profile of standard deviation `std` (a fraction of the run, 0 < std < 0.28).

    std = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))), solved by bisection.

    >>> round(exponent(0.10), 2), round(exponent(0.05), 2)
    (6.94, 16.97)
    """
    if not 0 < std < 0.28:
        raise UndiffuseError(f"ema must lie between 0 and 0.28 (a fraction of the run), not {std}")
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        wide = (middle + 1) / ((middle + 2) ** 2 * (middle + 3)) > std**2
        low, high = (middle, high) if wide else (low, middle)
    return low


class EMA:
    """The average of a network's parameters; buffers are taken as they are."""

    def __init__(self, network: nn.Module, std: float) -> None:
        self.gamma = exponent(std)
        self.weights = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, n: int) -> None:
        """Take in the weights after step n = 1, 2, ..."""
        state, buffers = network.state_dict(), {k for k, _ in network.named_buffers()}
        averaged = [k for k in self.weights if k not in buffers]
        torch._foreach_lerp_(
            [self.weights[k] for k in averaged],
            [state[k] for k in averaged],
            1 - (1 - 1 / n) ** (self.gamma + 1),
        )
        for name in buffers & set(self.weights):
            self.weights[name].copy_(state[name])

    def load(self, weights: dict[str, Tensor]) -> None:
        """Continue from stored averages."""
        for name, value in self.weights.items():
            value.copy_(weights[name])
