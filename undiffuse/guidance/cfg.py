"""Classifier-free guidance: a denoiser made from a conditional one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError, shown
from undiffuse.guidance.base import Combination
from undiffuse.schedules.base import Schedule


class ClassifierFree(Combination):
    """x0_hat(null) + w (x0_hat(c) - x0_hat(null)), in one batched call of the denoiser.

    w = 1 is the conditional model, w = 0 the unconditional one, w > 1 follows the condition more
    closely at the cost of variety. (Ho & Salimans write w - 1 for this w.) Since x0_hat and eps_hat
    are affine in each other, guiding either is the same.

    Args:
        denoiser: one that takes `label` with -1 for "no label".
        weight: w >= 0.

    Raises:
        UndiffuseError: a negative or non-finite weight; in a call: no label.

    Source: Ho & Salimans 2022 (arXiv 2207.12598); lectures 001, 004.
    """

    name: ClassVar[str] = "classifier-free"

    def __init__(self, denoiser: Denoiser, weight: float) -> None:
        super().__init__()
        if not (finite(weight) and weight >= 0):
            raise UndiffuseError(
                f"guidance weight {shown(weight)} must be a finite number >= 0: 0 ignores the"
                " label, 1 is the conditional model, more follows the label more closely"
            )
        self.denoiser, self.weight = denoiser, weight

    def conditions(
        self, batch: int, condition: dict[str, Condition]
    ) -> Sequence[dict[str, Condition]]:
        """With the label and without; at w = 0 and w = 1 the one of the two that counts."""
        both = given_and_null(condition)
        return (self.beneath(condition),) if self.weight in {0, 1} else both

    def combine(self, t: Tensor, estimates: Sequence[Tensor]) -> Tensor:
        given, null = estimates[0], estimates[-1]
        return given if len(estimates) == 1 else null + self.weight * (given - null)

    def beneath(self, condition: dict[str, Condition]) -> dict[str, Condition]:
        """With the label; at w = 0 without it."""
        label = condition.get("label")
        if label is None or self.weight != 0:
            return condition
        return {**condition, "label": torch.full_like(label, -1)}

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same guide around the denoiser under another schedule."""
        return ClassifierFree(self.denoiser.with_schedule(schedule), self.weight)


def with_label(condition: dict[str, Condition]) -> Tensor:
    """The label among the conditions.

    Raises:
        UndiffuseError: there is none.
    """
    label = condition.get("label")
    if label is None:
        raise UndiffuseError("classifier-free guidance needs a label to guide towards")
    return label


def given_and_null(
    condition: dict[str, Condition],
) -> tuple[dict[str, Condition], dict[str, Condition]]:
    """The conditions with their label, and the same with "no label"."""
    return condition, {**condition, "label": torch.full_like(with_label(condition), -1)}
