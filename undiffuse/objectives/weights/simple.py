"""The lectures' L_simple: every noise error counts the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.objectives.weights.base import Weight


@dataclass(frozen=True)
class Simple(Weight):
    """w = 1: E |eps_hat - eps|^2.

    Source: Ho et al. 2020 (arXiv 2006.11239), equation 14; lectures 000, 002, 004.
    """

    name: ClassVar[str] = "simple"

    def log_weight(self, log_snr: Tensor) -> Tensor:
        return torch.zeros_like(log_snr)
