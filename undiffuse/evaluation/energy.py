r"""The energy distance between two clouds of points: 0 only for equal distributions.

    D^2(X, Y) = 2 E|x - y| - E|x - x'| - E|y - y'|

Source: Szekely and Rizzo 2013, "Energy statistics: a class of statistics based on distances".
"""

from __future__ import annotations

import torch
from torch import Tensor


def energy_distance(x: Tensor, y: Tensor) -> float:
    """D^2 of two samples [N, D] and [M, D], every pair counted, also of a point with itself.

    Never negative; for equal distributions it falls like 1/N, so it is read beside the distance of
    two real samples of the same sizes.

    >>> x = torch.tensor([[0.0], [2.0]])
    >>> energy_distance(x, x), energy_distance(x, x + 1)
    (0.0, 1.0)
    """
    x, y = (v.detach().cpu().double().flatten(1) for v in (x, y))
    between, within = torch.cdist(x, y).mean(), torch.cdist(x, x).mean() + torch.cdist(y, y).mean()
    return float(2 * between - within)
