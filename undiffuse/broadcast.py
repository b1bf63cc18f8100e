"""The one place where a time, or anything that belongs to a sample, is laid over the samples."""

from __future__ import annotations

import torch
from torch import Tensor


def over(values: Tensor | float, x: Tensor) -> Tensor:
    """Give `values` (a scalar or [B]) the shape [B, 1, ..., 1] that multiplies x of shape [B, ...].

    The result has the dtype and device of x.

    >>> over(torch.tensor([1.0, 2.0]), torch.zeros(2, 3, 4)).shape
    torch.Size([2, 1, 1])
    """
    values = torch.as_tensor(values, dtype=x.dtype, device=x.device)
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim)) if values.ndim else values
