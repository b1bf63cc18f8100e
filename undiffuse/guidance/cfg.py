"""Classifier-free guidance: a denoiser made from a conditional one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.base import Guide, ask_together
from undiffuse.schedules.base import Schedule


class ClassifierFree(Guide):
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
        if not 0 <= weight < float("inf"):
            raise UndiffuseError(
                f"guidance weight {weight} must be a finite number >= 0: 0 ignores the label,"
                " 1 is the conditional model, more follows the label more closely"
            )
        self.denoiser, self.weight = denoiser, weight

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        if self.weight in {0, 1}:
            with_label(condition)
            return self.denoiser(x_t, t, **self.beneath(condition))
        given, null = ask_together(self.denoiser, x_t, t, given_and_null(condition))
        return null + self.weight * (given - null)

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
