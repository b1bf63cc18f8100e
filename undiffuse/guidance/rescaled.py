"""Classifier-free guidance that keeps the contrast of the conditional estimate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.guidance.base import Combination
from undiffuse.guidance.cfg import given_and_null
from undiffuse.schedules.base import Schedule


class Rescaled(Combination):
    """phi (s_c / s_w) x0_w + (1 - phi) x0_w, with x0_w = x0(null) + w (x0(c) - x0(null)).

    s_c and s_w are the standard deviations of x0(c) and x0_w over the numbers of one sample. A
    large w stretches x0_w beyond the range of the data (pictures too dark and too bright at once);
    phi = 1 gives it back the contrast of x0(c), phi = 0 is classifier-free guidance. One batched
    call.

    The paper rescales what its network predicts, v; at sigma = 1, where the effect is strongest and
    v = -x0_hat, that is the same.

    Args:
        denoiser: as for `ClassifierFree`.
        weight: w >= 0.
        phi: in [0, 1].

    Raises:
        UndiffuseError: weight or phi out of range; in a call: no condition.

    Source: Lin et al. 2023 (arXiv 2305.08891), section 3.4, with phi = 0.7 for pictures.
    """

    name: ClassVar[str] = "rescaled"

    def __init__(self, denoiser: Denoiser, weight: float, phi: float = 0.7) -> None:
        super().__init__()
        self.denoiser, self.weight, self.phi = denoiser, weight, phi
        check(finite(weight) and weight >= 0, self, "weight", "a finite number >= 0")
        check(finite(phi) and 0 <= phi <= 1, self, "phi", "in [0, 1]")

    def conditions(
        self, batch: int, condition: dict[str, Condition]
    ) -> Sequence[dict[str, Condition]]:
        return given_and_null(condition)

    def combine(self, t: Tensor, estimates: Sequence[Tensor]) -> Tensor:
        given, null = estimates
        guided = null + self.weight * (given - null)
        wanted, found = (x.flatten(1).std(1, correction=0) for x in (given, guided))  # [B]
        ratio = torch.where(found > 0, wanted / found, 1.0)
        return over(1 + self.phi * (ratio - 1), guided) * guided

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same guide around the denoiser under another schedule."""
        return Rescaled(self.denoiser.with_schedule(schedule), self.weight, self.phi)
