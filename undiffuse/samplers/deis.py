"""DEIS: Adams-Bashforth in the noise, with the polynomial in time or in sigma / alpha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from undiffuse.catalogue import check
from undiffuse.samplers.multistep import Choices, Multistep


@dataclass(frozen=True)
class DEIS(Multistep):
    r"""x_s / alpha_s = x_t / alpha_t + int P(eps_hat) d(sigma/alpha), P a polynomial in `variable`.

    "time" is the paper's tAB-DEIS, "sigma/alpha" its rhoAB-DEIS, which is the rule "lms". `order`
    values make a polynomial of degree order - 1, the paper's number. In time the rule depends on
    the schedule, not on its log-SNRs alone. Order p with exact values to remember, min(p, 2) from a
    cold start.

    Raises:
        UndiffuseError: order outside 1 ... 4, or another variable.

    Source: Zhang & Chen 2023 (arXiv 2204.13902), equations 15 and 17.
    """

    name: ClassVar[str] = "deis"
    grid: ClassVar[str] = "uniform"
    order: int = 3
    variable: str = "time"

    def __post_init__(self) -> None:
        check(type(self.order) is int and self.order in {1, 2, 3, 4}, self, "order", "1, 2, 3 or 4")
        fine = self.variable in {"time", "sigma/alpha"}
        check(fine, self, "variable", '"time" or "sigma/alpha"')

    @property
    def choices(self) -> Choices:
        return Choices("noise", self.variable, "exact", self.order)
