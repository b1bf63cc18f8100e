r"""The steps k of a chain of T steps at which to stop, as times k / T: three conventions.

A model trained on a chain of T = 1000 steps is sampled in n of them. Which ones is a convention,
and pipelines differ (`timestep_spacing`; their step numbers k - 1 start at 0). With T = 1000 and
n = 10:

    leading     901, 801, ..., 101, 1       never sees the end of the chain
    trailing    1000, 900, ..., 200, 100    begins at the end of the chain
    linspace    1000, 889, ..., 112, 1      both ends

Each is followed by the step to t = 0, or by the denoising call at the last of them where
sigma(0) > 0. A chain has its own T; a schedule in continuous time is read at the times k / `chain`.

Source: Lin et al. 2023 (arXiv 2305.08891), table 2; the diffusers library.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.errors import UndiffuseError
from undiffuse.grids.base import Grid, intervals
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class Chain(Grid):
    """Times k / T. `chain` is the T of a schedule that has no steps of its own.

    Raises:
        UndiffuseError: chain is no whole number >= 1; in `times`: more steps than the chain has.
    """

    chain: int = 1000

    def __post_init__(self) -> None:
        whole = finite(self.chain) and self.chain % 1 == 0 and self.chain >= 1
        check(whole, self, "chain", "a whole number, at least 1")

    @abstractmethod
    def numbers(self, length: int, steps: int) -> Tensor:
        """The k, [steps], float64 whole numbers that fall, from `length` at most to 1 at least."""

    def times(self, schedule: Schedule, steps: int) -> Tensor:
        intervals(schedule, steps)  # refuses what is no number of steps
        length = round(1 / schedule.first) if schedule.first > 0 else int(self.chain)
        if steps > length:
            raise UndiffuseError(
                f"the grid {self.name} cannot choose {steps} of the {length} steps of the chain:"
                " ask for fewer, or use the uniform grid"
            )
        times = self.numbers(length, int(steps)) / length
        if bool(schedule.sigma(0.0) > 0):
            return times
        return torch.cat([times, torch.zeros(1, dtype=torch.float64)])


@dataclass(frozen=True)
class Leading(Chain):
    """k = i floor(T / n) + 1, i = n - 1, ..., 0: every floor(T / n)-th step, from the first on.

    DDIM's and Stable Diffusion's convention (the latter one step later). It never starts from pure
    noise, and with few steps far from it, so the samples keep the brightness of the noise.

    Source: `timestep_spacing="leading"` of diffusers; criticised by Lin et al. 2023
    (arXiv 2305.08891), section 3.3.

    >>> from undiffuse.schedules.discrete import Discrete
    >>> Leading().times(Discrete.linear(1000), 4).tolist()
    [0.751, 0.501, 0.251, 0.001, 0.0]
    """

    name: ClassVar[str] = "leading"

    def numbers(self, length: int, steps: int) -> Tensor:
        return torch.arange(steps - 1, -1, -1, dtype=torch.float64) * (length // steps) + 1


@dataclass(frozen=True)
class Trailing(Chain):
    """k = round(T - i T / n), i = 0, ..., n - 1: counted from the end of the chain.

    Source: Lin et al. 2023 (arXiv 2305.08891), section 3.3.

    >>> from undiffuse.schedules.discrete import Discrete
    >>> Trailing().times(Discrete.linear(1000), 4).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    name: ClassVar[str] = "trailing"

    def numbers(self, length: int, steps: int) -> Tensor:
        falling = np.arange(length, 0, -length / steps)[:steps]  # numpy's own rounding decides ties
        return torch.from_numpy(falling.round())


@dataclass(frozen=True)
class Linspace(Chain):
    """n whole numbers at equal distances from T to 1, rounded; one alone is T.

    Source: `timestep_spacing="linspace"` of diffusers; Nichol & Dhariwal 2021 (arXiv 2102.09672),
    section 4.

    >>> from undiffuse.schedules.discrete import Discrete
    >>> Linspace().times(Discrete.linear(1000), 4).tolist()
    [1.0, 0.667, 0.334, 0.001, 0.0]
    """

    name: ClassVar[str] = "linspace"

    def numbers(self, length: int, steps: int) -> Tensor:
        if steps == 1:
            return torch.tensor([length], dtype=torch.float64)
        gap = (length - 1) / (steps - 1)
        return (torch.arange(steps - 1, -1, -1, dtype=torch.float64) * gap).round() + 1
