r"""Bits per dimension: from the density of real numbers to the probability of 8-bit values.

A density cannot be asked for the probability of a level n in 0 ... 255, but for that of its bin.
With u uniform in [0, 1) the levels become real numbers that fill the bins evenly,

    x = (n + u - 128) / scale,        scale = levels per unit of x,

and since each bin is 1 / scale wide, Jensen's inequality gives, in bits for each of D dimensions,

    -log2 P(n) / D  <=  E_u[-log2 p(x)] / D + log2(scale).

scale = 127.5 is the one of the images here, n / 127.5 - 1, which stand at the middles of their bins
(u = 1/2); scale = 128 fills [-1, 1) exactly. A uniform density costs 8 bits under either.

Sources: Uria et al. 2013 (arXiv 1306.0186); Theis et al. 2016 (arXiv 1511.01844).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError

SCALE = 127.5


def dequantised(levels: Tensor, u: Tensor, scale: float = SCALE) -> Tensor:
    """x = (n + u - 128) / scale, float64, of levels' shape.

    Args:
        levels: n, whole numbers from 0 to 255, of any shape and dtype.
        u: uniform numbers in [0, 1), of levels' shape.
        scale: levels per unit of x, > 0.

    Raises:
        UndiffuseError: levels that are no 8-bit values.

    >>> dequantised(torch.tensor([0, 255]), torch.tensor([0.5, 0.5])).tolist()
    [-1.0, 1.0]
    >>> dequantised(torch.tensor([0, 255]), torch.tensor([0.0, 0.5]), scale=128.0).tolist()
    [-1.0, 0.99609375]
    """
    n = levels.double()
    if not bool(((n >= 0) & (n <= 255) & (n == n.round())).all()):
        raise UndiffuseError(
            "dequantised takes whole numbers from 0 to 255; images in [-1, 1] are (x + 1) * 127.5"
        )
    return (n + u - 128) / _positive(scale)


def quantised(x: Tensor, scale: float = SCALE) -> Tensor:
    """The level whose bin x lies in, uint8, of x's shape; beyond the ends, 0 or 255.

    >>> quantised(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0, 128, 255]
    """
    return (x.double() * _positive(scale) + 128).floor().clamp(0, 255).to(torch.uint8)


def bits_per_dimension(log_p: Tensor, dims: int, scale: float = SCALE) -> Tensor:
    """-log_p / (dims log 2) + log2(scale), of log_p's shape.

    An upper bound, in the mean over u, of what the levels themselves would cost.

    Args:
        log_p: log p(x) in nats of dequantised data, [B].
        dims: D, how many numbers each sample holds.
        scale: levels per unit of x, as for `dequantised`.

    Raises:
        UndiffuseError: dims below 1, or a scale that is not positive.

    >>> uniform = -3 * math.log(256 / 127.5)  # log p of the cube that the bins fill, D = 3
    >>> round(bits_per_dimension(torch.tensor(uniform), 3).item(), 5)
    8.0
    """
    if dims < 1:
        raise UndiffuseError(f"dims must be at least 1, not {dims}")
    return math.log2(_positive(scale)) - log_p / (dims * math.log(2))


def _positive(scale: float) -> float:
    if not scale > 0:
        raise UndiffuseError(f"scale must be positive, not {scale}")
    return scale
