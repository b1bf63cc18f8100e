"""A few of many, evenly spread: which samples stand for a whole data set."""

from __future__ import annotations

import torch
from torch import Tensor


def spread(indices: Tensor, count: int) -> Tensor:
    """At most `count` of `indices`, evenly spread over them.

    >>> spread(torch.arange(10), 4).tolist()
    [0, 2, 5, 7]
    """
    count = min(count, len(indices))
    return indices[torch.arange(count) * len(indices) // max(count, 1)]
