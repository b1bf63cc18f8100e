"""Guidance away from a condition: a negative one in the place of none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.base import Combination
from undiffuse.schedules.base import Schedule

PREFIX = "negative_"


class Negative(Combination):
    """x0_hat(neg) + w (x0_hat(c) - x0_hat(neg)), in one batched call of the denoiser.

    Classifier-free guidance with something to move away from: the line through both estimates is
    followed from the unwanted one past the wanted one. For every condition such as `label` the call
    takes `negative_label` of the same shape; those without a negative are the same for both. With
    the label -1 as the negative it is classifier-free guidance. w = 1 is the condition alone.

    Args:
        denoiser: the one to ask.
        weight: w >= 0.

    Raises:
        UndiffuseError: weight out of range; in a call: no negative condition, or one that has no
            positive counterpart.

    Source: Ho & Salimans 2022 (arXiv 2207.12598) with another baseline; Du et al. 2020
    (arXiv 2004.06030) for negation.
    """

    name: ClassVar[str] = "negative"

    def __init__(self, denoiser: Denoiser, weight: float) -> None:
        super().__init__()
        self.denoiser, self.weight = denoiser, weight
        check(finite(weight) and weight >= 0, self, "weight", "a finite number >= 0")

    def conditions(
        self, batch: int, condition: dict[str, Condition]
    ) -> Sequence[dict[str, Condition]]:
        """The wanted and the unwanted; at w = 1 the wanted alone."""
        wanted = self.beneath(condition)
        instead = {k.removeprefix(PREFIX): condition[k] for k in condition if k not in wanted}
        missing = [k for k in instead if wanted.get(k) is None or instead[k] is None]
        if missing or not instead:
            raise UndiffuseError(
                "a negative condition stands beside a condition, both with a value: give"
                f" {missing[0] if missing else 'label'} and"
                f" {PREFIX}{missing[0] if missing else 'label'}"
            )
        return (wanted,) if self.weight == 1 else (wanted, {**wanted, **instead})

    def combine(self, t: Tensor, estimates: Sequence[Tensor]) -> Tensor:
        given, negative = estimates[0], estimates[-1]
        return given if len(estimates) == 1 else negative + self.weight * (given - negative)

    def beneath(self, condition: dict[str, Condition]) -> dict[str, Condition]:
        """Without the negatives."""
        return {k: v for k, v in condition.items() if not k.startswith(PREFIX)}

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same guide around the denoiser under another schedule."""
        return Negative(self.denoiser.with_schedule(schedule), self.weight)
