"""Thresholds: estimates of x_0 that stay in the range of the data."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.guidance.base import Guide
from undiffuse.schedules.base import Schedule


class StaticThreshold(Guide):
    """x0_hat, cut to [low, high].

    An exact denoiser never leaves the range of its data (the mean of a set lies in its convex
    hull), so for images in [-1, 1] this only repairs errors, those of guidance above all.

    Args:
        denoiser: E[x_0 | x_t], often a guide.
        low: the least value of the data.
        high: the greatest.

    Raises:
        UndiffuseError: unless low < high.

    Source: Ho et al. 2020 (arXiv 2006.11239), in their code; named in Saharia et al. 2022
    (arXiv 2205.11487), section 2.3.
    """

    name: ClassVar[str] = "static-threshold"

    def __init__(self, denoiser: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.denoiser, self.low, self.high = denoiser, low, high
        check(finite(low), self, "low", "a finite number")
        check(finite(high) and high > low, self, "high", "larger than low")

    def prepare(self, batch: int, **condition: Condition) -> dict[str, Any]:
        return self.denoiser.prepare(batch, **condition)

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        return self.denoiser(x_t, t, **condition).clamp(self.low, self.high)

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same threshold under another schedule."""
        return StaticThreshold(self.denoiser.with_schedule(schedule), self.low, self.high)


class DynamicThreshold(Guide):
    """x0_hat, cut to [-s, s] and divided by s / bound; s = max(bound, quantile of |x0_hat|).

    s is the given quantile over the numbers of each sample. Where a static threshold flattens all
    that lies outside, this one pulls it inwards, so that large guidance weights do not saturate.
    Nothing happens to a sample whose quantile lies within the bound, but for the cut at the bound.

    Args:
        denoiser: E[x_0 | x_t], often a guide.
        quantile: in (0, 1].
        bound: the range of the data is [-bound, bound].

    Raises:
        UndiffuseError: quantile or bound out of range.

    Source: Saharia et al. 2022 (arXiv 2205.11487), section 2.3.
    """

    name: ClassVar[str] = "dynamic-threshold"

    def __init__(self, denoiser: Denoiser, quantile: float = 0.995, bound: float = 1.0) -> None:
        super().__init__()
        self.denoiser, self.quantile, self.bound = denoiser, quantile, bound
        check(finite(quantile) and 0 < quantile <= 1, self, "quantile", "in (0, 1]")
        check(finite(bound) and bound > 0, self, "bound", "a positive number")

    def prepare(self, batch: int, **condition: Condition) -> dict[str, Any]:
        return self.denoiser.prepare(batch, **condition)

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        x0_hat = self.denoiser(x_t, t, **condition)
        size = x0_hat.flatten(1).abs().to(torch.promote_types(x0_hat.dtype, torch.float32))
        s = over(size.quantile(self.quantile, dim=1).clamp(min=self.bound), x0_hat)
        return torch.clamp(x0_hat, -s, s) * (self.bound / s)

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same threshold under another schedule."""
        moved = self.denoiser.with_schedule(schedule)
        return DynamicThreshold(moved, self.quantile, self.bound)
