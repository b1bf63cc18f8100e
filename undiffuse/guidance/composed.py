"""Several conditions at once, composed out of a denoiser that knows them one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.base import Combination
from undiffuse.schedules.base import Schedule


class Composed(Combination):
    """x0_hat(null) + sum_i w_i (x0_hat(c_i) - x0_hat(null)), in one batched call.

    With w_i = 1 this is the score of p(x) prod_i p(c_i | x), so of p(x | c_1, ..., c_n) if the
    conditions are independent given x. That holds for densities at one noise level: the noisy
    product is not the product of noisy densities, so what is sampled is near to it only. A negative
    w_i stays away from c_i.

    In a call `label` is int64 [B, n] with one column for each weight; -1 leaves a condition out.

    Args:
        denoiser: one that takes `label` [B] with -1 for "no label".
        weights: w_1, ..., w_n, finite.

    Raises:
        UndiffuseError: no weights, or one that is not finite; in a call: labels of another shape.

    Source: Liu et al. 2022 (arXiv 2206.01714); Du et al. 2023 (arXiv 2302.11552) for
    what it samples.
    """

    name: ClassVar[str] = "composed"

    def __init__(self, denoiser: Denoiser, weights: Sequence[float]) -> None:
        super().__init__()
        self.denoiser, self.weights = denoiser, tuple(weights)
        check(bool(self.weights) and finite(*self.weights), self, "weights", "finite numbers")

    def conditions(
        self, batch: int, condition: dict[str, Condition]
    ) -> Sequence[dict[str, Condition]]:
        """Without a label, and with that of each column."""
        label, n = condition.get("label"), len(self.weights)
        if label is None or label.shape != (batch, n):
            raise UndiffuseError(
                f"label must be [{batch}, {n}] here, one column for each of the {n} weights, not"
                f" {None if label is None else list(label.shape)}"
            )
        columns = [torch.full_like(label[:, 0], -1), *label.unbind(1)]
        return [{**condition, "label": column} for column in columns]

    def combine(self, t: Tensor, estimates: Sequence[Tensor]) -> Tensor:
        null, *given = estimates
        x0_hat = null
        for weight, estimate in zip(self.weights, given, strict=True):
            x0_hat = x0_hat + weight * (estimate - null)
        return x0_hat

    def beneath(self, condition: dict[str, Condition]) -> dict[str, Condition]:
        """Without labels: no single one is meant."""
        return {**condition, "label": None}

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same guide around the denoiser under another schedule."""
        return Composed(self.denoiser.with_schedule(schedule), self.weights)
