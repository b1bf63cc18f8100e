"""Linear multistep rules of classical numerics: LMS in sigma / alpha, and PLMS with constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import check
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.levels import first_order, inner, level, noise_of
from undiffuse.samplers.multistep import Choices, Multistep, combine


@dataclass(frozen=True)
class LMS(Multistep):
    r"""Adams-Bashforth of dy/d(sigma/alpha) = eps_hat, y = x / alpha, for steps of any length.

    Order p with exact values to remember, min(p, 2) from a cold start.

    Raises:
        UndiffuseError: order outside 1 ... 4.

    Source: Crowson 2022, k-diffusion's `sample_lms`; Zhang & Chen 2023 (arXiv 2204.13902),
    rhoAB-DEIS, is the same.
    """

    name: ClassVar[str] = "lms"
    order: int = 4

    def __post_init__(self) -> None:
        check(type(self.order) is int and self.order in {1, 2, 3, 4}, self, "order", "1, 2, 3 or 4")

    @property
    def choices(self) -> Choices:
        return Choices("noise", "sigma/alpha", "exact", self.order)


ADAMS = {  # Adams-Bashforth for equal steps, the newest value first
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


@dataclass(frozen=True)
class PLMS(Sampler):
    r"""DDIM's step with eps' = (55 eps_t - 59 eps_{t+1} + 37 eps_{t+2} - 9 eps_{t+3}) / 24.

    The constants are those for equal steps, whatever the steps are; it begins with the constants of
    lower order. On a smooth grid it is of order 2, and of order p only where the steps are equal in
    sigma / alpha (with exact values to remember; 2 from a cold start). A step from or to alpha = 0
    or to sigma = 0 is first order.

    Raises:
        UndiffuseError: order outside 1 ... 4.

    Source: Liu et al. 2022 (PNDM, arXiv 2202.09778), equations 11 and 12, without its Runge-Kutta
    start.
    """

    name: ClassVar[str] = "plms"
    grid: ClassVar[str] = "uniform"
    order: int = 4

    def __post_init__(self) -> None:
        check(type(self.order) is int and self.order in ADAMS, self, "order", "1, 2, 3 or 4")

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        now, then = level(denoiser.schedule, float(t)), level(denoiser.schedule, float(s))
        x0_hat = denoiser(x, t)
        if not inner(now, then):
            return first_order(x, x0_hat, now, then), None
        memory = (noise_of(x, x0_hat, now), *(memory or ()))[: self.order]
        moved = then.sigma - then.alpha * now.ratio
        constants = [moved * constant for constant in ADAMS[len(memory)]]
        return combine(x, (then.alpha / now.alpha, *constants), memory), memory
