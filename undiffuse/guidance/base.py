r"""What a guide is: a denoiser made from a denoiser.

Since the score and x0_hat are affine in each other, everything that is done to a score can be done
to x0_hat. Guides come in three kinds:

    combinations    sum_i a_i x0_hat(x_t | c_i) with sum_i a_i = 1: several conditions, or several
                    denoisers, laid along a line or a plane,
    gradients       x0_hat + (sigma^2 / alpha) grad log p(y | x_t): Bayes' rule for the score,
    functions       of x0_hat itself: thresholds, rescaling, a choice by noise level.

A guide sees no grid and no sampler, so it works with all of them, and around another guide.

`prepare` works out once what follows from the conditions alone: a guide keeps the conditions as
they are and adds, under the name `PREPARED`, those that the denoiser underneath has prepared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Schedule, Time

PREPARED = "prepared"


class Guide(Denoiser, ABC):
    """A denoiser around another one, with its schedule and its range of log-SNRs.

    Attributes:
        denoiser: the one underneath.
    """

    denoiser: Denoiser

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        """The schedule of the denoiser underneath."""
        return self.denoiser.schedule

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The range of the denoiser underneath."""
        return self.denoiser.log_snr_range

    def beneath(self, condition: dict[str, Condition]) -> dict[str, Condition]:
        """The conditions under which the denoiser underneath tells its reverse variance."""
        return condition

    def unguided(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        """What the denoiser underneath says, without this guide, [B, ...]."""
        return self.denoiser(x_t, t, **self.beneath(condition))

    def reverse_variance(self, x_t: Tensor, t: Time, s: Time, **condition: Condition) -> Tensor:
        """That of the denoiser underneath: guidance moves the mean alone."""
        raw = self.beneath({k: v for k, v in condition.items() if k != PREPARED})
        return self.denoiser.reverse_variance(x_t, t, s, **raw)


class Combination(Guide, ABC):
    """A function of what one denoiser says under n sets of conditions, asked for in one call."""

    @abstractmethod
    def conditions(
        self, batch: int, condition: dict[str, Condition]
    ) -> Sequence[dict[str, Condition]]:
        """The n sets for `batch` samples, with the same names; a value is None in all or none."""

    @abstractmethod
    def combine(self, t: Tensor, estimates: Sequence[Tensor]) -> Tensor:
        """The guided estimate [B, ...] out of those under each set, at time t, scalar or [B]."""

    def prepare(self, batch: int, **condition: Condition) -> dict[str, Any]:
        """All sets laid behind each other, and prepared as one batch n times as large."""
        sets = self.conditions(batch, condition)
        joint: dict[str, Condition] = {}
        for name in sets[0]:
            values = [v for c in sets if (v := c[name]) is not None]
            joint[name] = torch.cat(values) if values else None
        ready = self.denoiser.prepare(len(sets) * batch, **joint)
        return {**condition, PREPARED: (len(sets), ready)}

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        known = condition if PREPARED in condition else self.prepare(len(x_t), **condition)
        n, ready = known[PREPARED]
        times = t if t.ndim == 0 else torch.cat([t] * n)
        return self.combine(t, self.denoiser(torch.cat([x_t] * n), times, **ready).chunk(n))


def tilted(schedule: Schedule, x0_hat: Tensor, t: Tensor, gradient: Tensor) -> Tensor:
    """x0_hat + (sigma^2 / alpha) gradient: Tweedie's formula after Bayes' rule.

    With gradient = grad log p(y | x_t) it is E[x_0 | x_t, y], as
    grad log p(x_t | y) = grad log p(x_t) + grad log p(y | x_t).

    Raises:
        UndiffuseError: alpha(t) = 0, where x_t says nothing about x_0 and this is 0 / 0.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if bool((alpha == 0).any()):
        raise UndiffuseError(
            f"at t = {float(t.max())} of {schedule.name} alpha is 0 and a gradient cannot guide:"
            " sample with grid 'log-snr', or give times that start below it"
        )
    return x0_hat + over(sigma**2 / alpha, x0_hat) * gradient


def same_schedule(one: Denoiser, other: Denoiser) -> None:
    """Refuse two denoisers that read the same x_t and t differently.

    Raises:
        UndiffuseError: their schedules differ.
    """
    if one.schedule != other.schedule:
        raise UndiffuseError(
            f"two denoisers are combined at the same x_t and t, but one is under {one.schedule} and"
            f" the other under {other.schedule}: use with_schedule on one of them"
        )
