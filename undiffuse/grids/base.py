r"""The times at which a sampler stops on its way from noise to data.

A grid makes the times t_0 > t_1 > ... of a given number of steps under a schedule. It says nothing
about the rule that steps between them. "Steps" counts evaluations of a one-evaluation rule: the
last one is the step to sigma = 0, or, where the schedule ends at sigma(0) > 0, the denoising call
that follows the grid; `intervals` is then one less than `steps`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Schedule


class Grid(ABC):
    """Times for `steps` steps: a falling float64 tensor. Frozen dataclasses.

    It ends at 0 if sigma(0) = 0, otherwise where the denoising call is made.
    """

    name: ClassVar[str]

    @abstractmethod
    def times(self, schedule: Schedule, steps: int) -> Tensor:
        """The times, [n + 1] for n intervals: n = steps if sigma(0) = 0, else steps - 1."""


def intervals(schedule: Schedule, steps: int) -> int:
    """How many intervals a grid has for `steps` evaluations.

    Raises:
        UndiffuseError: steps is no whole number >= 1.
    """
    if not steps >= 1 or steps % 1 != 0:
        raise UndiffuseError(f"steps must be a whole number, at least 1, not {steps}")
    return steps if bool(schedule.sigma(0.0) == 0) else steps - 1
