"""Classifier-free guidance: a denoiser made from a conditional one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Schedule, Time


class ClassifierFree(Denoiser):
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

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        """The schedule of the denoiser underneath."""
        return self.denoiser.schedule

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The range of the denoiser underneath."""
        return self.denoiser.log_snr_range

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        label = condition.pop("label", None)
        if label is None:
            raise UndiffuseError("classifier-free guidance needs a label to guide towards")
        if self.weight == 1:
            return self.denoiser(x_t, t, label=label, **condition)
        if self.weight == 0:
            return self.denoiser(x_t, t, label=torch.full_like(label, -1), **condition)
        twice = {k: None if v is None else torch.cat([v, v]) for k, v in condition.items()}
        both = torch.cat([label, torch.full_like(label, -1)])
        t_both = t if t.ndim == 0 else torch.cat([t, t])
        given, null = self.denoiser(torch.cat([x_t, x_t]), t_both, label=both, **twice).chunk(2)
        return null + self.weight * (given - null)

    def reverse_variance(self, x_t: Tensor, t: Time, s: Time, **condition: Condition) -> Tensor:
        """That of the denoiser underneath, given the label: guidance moves the mean alone.

        At w = 0 without the label.
        """
        label = condition.pop("label", None)
        if label is not None and self.weight == 0:
            label = torch.full_like(label, -1)
        return self.denoiser.reverse_variance(x_t, t, s, label=label, **condition)

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same guide around the denoiser under another schedule."""
        return ClassifierFree(self.denoiser.with_schedule(schedule), self.weight)
