"""The error of v counts the same at every noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from undiffuse.objectives.weights.base import Weight


@dataclass(frozen=True)
class V(Weight):
    """w = 1 + exp(-log_snr): |v_hat - v|^2 with v = (alpha eps - sigma x_0) / r.

    r^2 = alpha^2 + sigma^2 is 1 for a variance-preserving schedule. In the data error it is
    SNR + 1.

    Source: Salimans & Ho 2022 (arXiv 2202.00512), section 4 ("SNR+1").
    """

    name: ClassVar[str] = "v"

    def log_weight(self, log_snr: Tensor) -> Tensor:
        return softplus(-log_snr, threshold=700)
