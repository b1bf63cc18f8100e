"""Noise levels as plain numbers, worked out once for each time of a schedule.

A sampler asks for the same few numbers at every batch of every run, and to ask a schedule costs
more than a step on small data. Schedules are frozen, so what they say at a time is kept, as Python
floats, which hold float64 exactly.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from undiffuse.schedules.base import Schedule, as_time


class Level(NamedTuple):
    """What a schedule says at one time."""

    alpha: float
    sigma: float
    log_snr: float  # infinite at either end

    @property
    def ratio(self) -> float:
        """sigma / alpha; infinite at alpha = 0."""
        return self.sigma / self.alpha if self.alpha else float("inf")


@functools.lru_cache(maxsize=8192)  # the times of many long runs
def level(schedule: Schedule, t: float) -> Level:
    """alpha, sigma and log-SNR at t, in float64.

    >>> from undiffuse.schedules.flow import Flow
    >>> level(Flow(), 0.5)
    Level(alpha=0.5, sigma=0.5, log_snr=0.0)
    """
    time = as_time(t)
    values = schedule.alpha(time), schedule.sigma(time), schedule.log_snr(time)
    return Level(*(float(value) for value in values))
