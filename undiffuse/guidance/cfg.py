"""Classifier-free guidance: a denoiser made from a conditional one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError, shown
from undiffuse.guidance.base import Combination
from undiffuse.networks.conditioning import OPTIONS, without
from undiffuse.schedules.base import Schedule


class ClassifierFree(Combination):
    """x0_hat(null) + w (x0_hat(c) - x0_hat(null)), in one batched call of the denoiser.

    w = 1 is the conditional model, w = 0 the unconditional one, w > 1 follows the condition more
    closely at the cost of variety. (Ho & Salimans write w - 1 for this w.) Since x0_hat and eps_hat
    are affine in each other, guiding either is the same.

    Args:
        denoiser: one that was trained with "none" in the place of some of its conditions:
            a label of -1, NaN in a vector, tokens or an image (`networks.conditioning`).
        weight: w >= 0.

    Raises:
        UndiffuseError: a negative or non-finite weight; in a call: no condition.

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
        """With the conditions and without; at w = 0 and w = 1 the one of the two that counts."""
        both = given_and_null(condition)
        return (self.beneath(condition),) if self.weight in {0, 1} else both

    def combine(self, t: Tensor, estimates: Sequence[Tensor]) -> Tensor:
        asked, null = estimates[0], estimates[-1]
        return asked if len(estimates) == 1 else null + self.weight * (asked - null)

    def beneath(self, condition: dict[str, Condition]) -> dict[str, Condition]:
        """With the conditions; at w = 0 without them."""
        return {**condition, **without(given(condition))} if self.weight == 0 else condition

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same guide around the denoiser under another schedule."""
        return ClassifierFree(self.denoiser.with_schedule(schedule), self.weight)


def given(condition: dict[str, Condition]) -> dict[str, Tensor]:
    """The conditions that say what to show, those of `networks.conditioning`, with a value."""
    return {k: v for k, v in condition.items() if v is not None and k in OPTIONS}


def given_and_null(
    condition: dict[str, Condition],
) -> tuple[dict[str, Condition], dict[str, Condition]]:
    """The conditions as they are, and the same with "none" in the place of each.

    Raises:
        UndiffuseError: there is none.
    """
    if not given(condition):
        raise UndiffuseError(
            "classifier-free guidance needs a label or another condition to guide towards"
        )
    return condition, {**condition, **without(given(condition))}
