"""The sigmoid weight: a bound on the likelihood of slightly noisy data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from undiffuse.catalogue import check, finite
from undiffuse.objectives.weights.base import Weight


@dataclass(frozen=True)
class Sigmoid(Weight):
    """w = sigmoid(bias - log_snr).

    In the paper it multiplies 1/2 |eps_hat - eps|^2 dlog_snr: Objective(Integral(), Sigmoid()). As
    it falls with log-SNR, that loss is an evidence lower bound under Gaussian noise augmentation.

    Raises:
        UndiffuseError: unless bias is finite.

    Source: Kingma & Gao 2023 (arXiv 2303.00848), bias = 2.
    """

    name: ClassVar[str] = "sigmoid"
    bias: float = 2.0

    def __post_init__(self) -> None:
        check(finite(self.bias), self, "bias", "a finite number")

    def log_weight(self, log_snr: Tensor) -> Tensor:
        return logsigmoid(self.bias - log_snr)
