"""The error of the flow's velocity counts the same at every noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from undiffuse.objectives.weights.base import Weight


@dataclass(frozen=True)
class Flow(Weight):
    """w = (1 + exp(-log_snr / 2))^2 = (1 + sigma/alpha)^2: |u_hat - u|^2 with u = eps - x_0.

    With uniform t under the Flow schedule it is conditional flow matching.

    Source: Lipman et al. 2023 (arXiv 2210.02747), Liu et al. 2023 (arXiv 2209.03003).
    """

    name: ClassVar[str] = "flow"

    def log_weight(self, log_snr: Tensor) -> Tensor:
        return 2 * softplus(-log_snr / 2, threshold=700)
