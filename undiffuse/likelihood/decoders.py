r"""The last step of the reverse chain, p(x_0 | x_t): L_0 is -log of what it gives the data.

Both are Gaussian with mean x0_hat; they differ in what data is: real numbers, of which a density
can be asked (and L_0 may be negative), or 8-bit values, each with a probability (L_0 >= 0).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError


def gaussian_log_prob(x_0: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """log N(x_0; mean, variance) in nats, summed over dimensions, [B].

    x_0 and mean [B, ...]; variance > 0 of a shape that multiplies them.
    """
    square: Tensor = (x_0 - mean) ** 2 / variance + (2 * math.pi * variance).log()
    return -square.flatten(1).sum(1) / 2


def discretised_log_prob(x_0: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    r"""log of the mass of N(mean, variance) in the bin of each 8-bit value, summed, [B]; <= 0.

    log prod_i int_{x_i - 1/255}^{x_i + 1/255} N(y; mean_i, variance) dy, where the bins of -1 and 1
    reach to infinity. Written with log Phi, so it is finite and accurate far out in either tail.

    Args:
        x_0: 8-bit data scaled to [-1, 1], x = 2 n / 255 - 1, [B, ...].
        mean: [B, ...].
        variance: > 0, of a shape that multiplies them.

    Raises:
        UndiffuseError: x_0 is not such data.

    Source: Ho et al. 2020 (arXiv 2006.11239), equation 13.

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> round(discretised_log_prob(one, one - 1 / 255, one).item(), 6)  # half of the mass
    -0.693147
    """
    level = (x_0.detach() + 1) * 127.5
    on_grid = (level - level.round()).abs() < 0.01
    if not bool((on_grid & (level.round() >= 0) & (level.round() <= 255)).all()):
        raise UndiffuseError(
            "a discretised decoder needs 8-bit data scaled to [-1, 1]; for other data use the"
            " gaussian one"
        )
    std = variance.sqrt()
    low = ((x_0 - 1 / 255 - mean) / std).masked_fill(level.round() == 0, -math.inf)
    high = ((x_0 + 1 / 255 - mean) / std).masked_fill(level.round() == 255, math.inf)
    right = low + high > 0  # Phi is accurate in its left tail: mirror the bins on the right
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    log_high = torch.special.log_ndtr(high)
    inside = torch.where(low.isinf(), high - 1, low)  # no inf - inf in the gradient
    gap = (torch.special.log_ndtr(inside) - log_high).clamp(max=-1e-300)
    log_share = torch.where(low.isinf(), 0.0, (-torch.expm1(gap)).log())
    log_mass: Tensor = log_high + log_share
    return log_mass.flatten(1).sum(1)
