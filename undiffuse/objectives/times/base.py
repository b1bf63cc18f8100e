r"""How the training time t is drawn, and against what measure a loss is then an average.

A distribution draws t with the density p(t), and the loss is

    L = int m(t) l(t) dt = E_{t ~ p} [ (m / p)(t) l(t) ].

For most, the measure m is p itself and a loss counts as it is. Where t is only drawn in another way
than it is meant (importance sampling, an integral over log-SNR), m / p is the `correction`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.schedules.base import Schedule


class Times(ABC):
    """A distribution of t, given by its quantile function. Frozen dataclasses."""

    name: ClassVar[str]

    @abstractmethod
    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        """t in [0, 1] for u uniform in [0, 1), float64 [B].

        Stratified u (one in each of B equal intervals) give stratified t: less noise in the loss.
        """

    @abstractmethod
    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        """p(t) of the times drawn, per unit of t, float64 of t's shape.

        Over the steps of a chain it is T times the probability of a step.
        """

    def measure(self, t: Tensor, schedule: Schedule) -> Tensor:
        """m(t), what the loss is an integral against; the density unless said otherwise."""
        return self.density(t, schedule)

    def correction(self, t: Tensor, schedule: Schedule) -> Tensor:
        """m(t) / p(t), the factor of a loss at a drawn t; 1 unless said otherwise."""
        return torch.ones_like(t)

    def updated(self, u: Tensor, loss: Tensor, schedule: Schedule) -> Times:
        """The distribution after the losses [B] that came of the numbers u [B]; this one itself,
        unless it learns from them.
        """
        return self

    def log_snr_range(self, schedule: Schedule) -> tuple[float, float]:
        """The log-SNRs that training sees (lowest, highest).

        Unless the distribution says otherwise, the schedule's own, cut at sigma/alpha = 0.002 and
        160: beyond, data of unit scale is intact to 8 bits, or drowned.
        """
        return log_snr_ends(schedule)


def log_snr_ends(
    schedule: Schedule, noise_min: float = 0.002, noise_max: float = 160.0
) -> tuple[float, float]:
    """The lowest and highest log-SNR of a schedule, cut at sigma/alpha = noise_max and noise_min.

    >>> from undiffuse.schedules.flow import Flow
    >>> log_snr_ends(Flow(), noise_min=0.5, noise_max=4.0)
    (-2.77..., 1.38...)
    """
    low, high = float(schedule.log_snr(1.0)), float(schedule.log_snr(0.0))
    return max(low, -2 * math.log(noise_max)), min(high, -2 * math.log(noise_min))
