r"""DDPM's discrete schedules: any list beta_1 ... beta_T, as a schedule in continuous time.

The chain q(x_k | x_{k-1}) = N(sqrt(1 - beta_k) x_{k-1}, beta_k I) has
\bar\alpha_k = prod_{j <= k} (1 - beta_j). Step k stands at t = k / T. Between the steps
B(t) = -log \bar\alpha is linear in t, which is the variance-preserving SDE with beta(t) constant
over each step: the chain is that SDE seen at the times k / T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from undiffuse.catalogue import check, finite
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Schedule, Time, as_time


@dataclass(frozen=True, repr=False)
class Discrete(Schedule):
    r"""alpha(k/T)^2 = \bar\alpha_k, sigma^2 = 1 - \bar\alpha_k for a list of beta_k in (0, 1).

    `Discrete.linear(T)` is the lectures' and DDPM's choice, `Discrete.constant(T)` lecture 001's
    toy chain.

    Raises:
        UndiffuseError: an empty list, or a beta_k outside (0, 1). beta_k = 1 would end the signal
            at once: write the rest of the list and wrap it in ZeroTerminalSNR.

    Source: Ho et al. 2020 (arXiv 2006.11239); lectures 000, 001, 002, 004.

    >>> Discrete((0.1, 0.2)).alpha(1.0).item() ** 2  # (1 - 0.1) (1 - 0.2)
    0.72...
    """

    name: ClassVar[str] = "discrete"
    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        check(len(self.betas) > 0, self, "betas", "a list of at least one number")
        for k, beta in enumerate(self.betas, start=1):
            if not finite(beta) or not 0 < beta < 1:
                raise UndiffuseError(
                    f"Discrete: betas must lie strictly between 0 and 1, not beta_{k} = {beta!r};"
                    " for a chain that ends in pure noise use ZeroTerminalSNR, not a beta of 1"
                )

    def __repr__(self) -> str:
        first, last = self.betas[0], self.betas[-1]
        return f"Discrete(<{len(self.betas)} betas from {first:.4g} to {last:.4g}>)"

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:  # of a thousand numbers, asked for at every step of a sampler
        return hash(self.betas)

    @classmethod
    def linear(
        cls, steps: int = 1000, beta_first: float = 1e-4, beta_last: float = 0.02
    ) -> Discrete:
        """beta_k from `beta_first` to `beta_last` in equal increments, scaled by 1000 / `steps`.

        The end stays noise: sum(beta) is about 10 for every T, so alpha(1)^2 is about exp(-10),
        where the unscaled list at T = 200 would leave alpha(1)^2 = 0.13, a visible image. T = 1000
        is DDPM's own list.

        >>> Discrete.linear(200).betas[-1]
        0.1
        """
        scale = 1000 / steps if steps > 0 else math.nan
        if not beta_last * scale < 1:
            raise UndiffuseError(
                f"Discrete.linear: {steps} steps would need a beta of {beta_last * scale:.3g};"
                f" use more than {math.ceil(1000 * beta_last)} steps"
            )
        betas = torch.linspace(beta_first * scale, beta_last * scale, steps, dtype=torch.float64)
        return cls(tuple(betas.tolist()))

    @classmethod
    def constant(cls, steps: int = 1000, beta: float = 0.01) -> Discrete:
        r"""The lecture's toy chain X_k = sqrt(1 - p) X_{k-1} + sqrt(p) u_k with p = `beta`.

        X_k given X_0 has mean (1 - p)^{k/2} X_0 and variance 1 - (1 - p)^k, so it is N(0, I) only
        in the limit of many steps: 1000 of 0.01 leave alpha(1)^2 = 4e-5.

        Raises:
            UndiffuseError: steps is no whole number >= 1, or beta lies outside (0, 1).

        Source: lecture 001, "intuition behind diffusion processes".

        >>> Discrete.constant(2, beta=0.1).alpha(1.0).item() ** 2
        0.81...
        """
        if not steps >= 1 or steps % 1 != 0:
            raise UndiffuseError(
                f"Discrete.constant: steps must be a whole number, at least 1, not {steps}"
            )
        return cls((beta,) * int(steps))

    @property
    def first(self) -> float:
        """1 / T, the time of the chain's first step."""
        return 1 / self.steps

    @property
    def steps(self) -> int:
        """T, the number of steps of the chain."""
        return len(self.betas)

    @cached_property
    def _integrals(self) -> NDArray[np.float64]:
        return np.append(0.0, -np.log1p(-np.array(self.betas)).cumsum())

    def _knots(self, like: Tensor) -> Tensor:
        return torch.from_numpy(self._integrals).to(like.device)  # [T + 1]

    def integral(self, t: Time) -> Tensor:
        r"""B(t) = -log \bar\alpha(t), linear between the steps k / T."""
        t = as_time(t)
        knots = self._knots(t)
        k = (t.detach() * self.steps).floor().clamp(0, self.steps - 1).long()
        return torch.lerp(knots[k], knots[k + 1], t * self.steps - k)

    def alpha(self, t: Time) -> Tensor:
        return torch.exp(-self.integral(t) / 2)

    def sigma(self, t: Time) -> Tensor:
        return torch.sqrt(-torch.expm1(-self.integral(t)))

    def log_snr(self, t: Time) -> Tensor:
        return -torch.expm1(self.integral(t)).log()

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        b = softplus(-as_time(log_snr), threshold=700)  # B = log(1 + 1/SNR)
        knots = self._knots(b)
        k = (torch.searchsorted(knots, b.contiguous()) - 1).clamp(0, self.steps - 1)
        fraction = (b - knots[k]) / (knots[k + 1] - knots[k])
        return ((k + fraction) / self.steps).clamp(0, 1)
