"""Times at equal distances in log-SNR: the noise level falls by the same factor at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.grids.span import Span


@dataclass(frozen=True)
class LogSNR(Span):
    """sigma/alpha falls geometrically from `noise_max` to `noise_min`, then one step to t = 0.

    Ends and errors as for every grid in the noise level (`Span`).

    Source: Lu et al. 2022 (arXiv 2206.00927); lecture 003.

    >>> from undiffuse.schedules.flow import Flow
    >>> LogSNR(noise_max=4.0, noise_min=1.0).times(Flow(), 3).tolist()  # sigma/alpha 4, 2, 1, 0
    [0.8, 0.666..., 0.5, 0.0]
    """

    name: ClassVar[str] = "log-snr"

    def log_snrs(self, first: float, last: float, count: int) -> Tensor:
        return torch.linspace(first, last, count, dtype=torch.float64)
