"""Autoguidance: away from a bad version of the same model."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.guidance.base import PREPARED, Guide, same_schedule
from undiffuse.schedules.base import Schedule


class Autoguidance(Guide):
    """x0_bad + w (x0_good - x0_bad), w > 1: what the bad model errs in, the good one errs in less.

    The bad version is a smaller network, or one that was trained for a shorter time, on the same
    data and conditions: `load(run).denoiser` of an early checkpoint will do. Needs no condition. It
    sharpens without driving samples to one side, as the difference of a conditional and an
    unconditional model does. Two networks, so two calls; at w = 1 the good one is asked alone.

    Args:
        denoiser: the good one.
        bad: the bad one, under the same schedule.
        weight: w >= 0.

    Raises:
        UndiffuseError: weight out of range, or schedules that differ.

    Source: Karras et al. 2024 (arXiv 2406.02507).
    """

    name: ClassVar[str] = "autoguidance"

    def __init__(self, denoiser: Denoiser, bad: Denoiser, weight: float) -> None:
        super().__init__()
        self.denoiser, self.bad, self.weight = denoiser, bad, weight
        check(finite(weight) and weight >= 0, self, "weight", "a finite number >= 0")
        same_schedule(denoiser, bad)

    def prepare(self, batch: int, **condition: Condition) -> dict[str, Any]:
        """For both of them."""
        pair = (each.prepare(batch, **condition) for each in (self.denoiser, self.bad))
        return {**condition, PREPARED: tuple(pair)}

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        for_good, for_bad = condition.get(PREPARED, (condition, condition))
        good = self.denoiser(x_t, t, **for_good)
        if self.weight == 1:
            return good
        bad = self.bad(x_t, t, **for_bad)
        return bad + self.weight * (good - bad)

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same guide around both under another schedule."""
        pair = self.denoiser.with_schedule(schedule), self.bad.with_schedule(schedule)
        return Autoguidance(*pair, self.weight)
