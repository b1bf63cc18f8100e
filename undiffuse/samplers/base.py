r"""What a sampler is: one pure step from time t to time s.

    x_s, memory = sampler.step(denoiser, x_t, t, s, memory, noise)

The step may ask the denoiser once or several times. What a multistep rule must remember travels in
`memory` as a value, so there is no counter to run past an end, and a stochastic rule draws from
`noise`. Grids, seeds, progress and trajectories belong to the one loop in `samplers/loop.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from undiffuse.denoiser import Denoiser
from undiffuse.grids.base import Grid

Noise = Callable[[Tensor], Tensor]
Memory = Any


def along_path(noise: Noise, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """(W(s) - W(t)) / sqrt(t - s) ~ N(0, I) of x's shape, for a step of an SDE from t to s < t.

    W is one Brownian path per sample where `noise` has `increment`, as the loop's has: then shorter
    steps refine the same path. Otherwise noise(x).
    """
    increment = getattr(noise, "increment", None)
    if increment is None:
        return noise(x)
    moved: Tensor = increment(x, t, s)
    return moved / torch.sqrt(t - s).to(x)


class Sampler(ABC):
    """A rule for one step. Subclasses are frozen dataclasses; their fields are the options.

    Attributes:
        grid: the grid that suits the rule best, or its name, used when none is asked for.
        adaptive: whether the rule chooses how many evaluations it takes; then it cannot be asked
            for a number of steps.
        stochastic: whether the rule draws noise; such a rule needs s < t.
    """

    name: ClassVar[str]
    grid: ClassVar[Grid | str] = "log-snr"
    adaptive: ClassVar[bool] = False

    @property
    def stochastic(self) -> bool:
        """Whether a step draws noise."""
        return False

    @abstractmethod
    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        """One step.

        Args:
            denoiser: called as denoiser(x, t); its conditions are already bound.
            x: the samples at time t, [B, ...].
            t: the time of x, a float64 scalar.
            s: the time to go to, a float64 scalar; s < t towards data.
            memory: what the previous step returned; None at the first step.
            noise: noise(x) gives standard normal numbers of x's shape, fresh ones at each call.

        Returns:
            the samples at time s, and the memory for the next step.
        """

    def last(self, denoiser: Denoiser, x: Tensor, t: Tensor, memory: Memory) -> Tensor:
        """x_0 from the samples at the last time t, where p_0 still holds noise: x0_hat there.

        A rule may do better with what it remembers, in one evaluation too.
        """
        return denoiser(x, t)
