"""Exponential Adams-Bashforth in the noise, the default rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from undiffuse.catalogue import check
from undiffuse.samplers.multistep import Choices, Multistep


@dataclass(frozen=True)
class ExponentialAdams(Multistep):
    r"""Exponential Adams-Bashforth in eps_hat, polynomial in log-SNR; order 3 is the default.

    x_s / alpha_s = x_t / alpha_t + (sigma_t / alpha_t) sum_j w_j eps_hat_j, over the last `order`
    evaluations (fewer at the start). The polynomial in log-SNR suits noise levels that fall
    geometrically. Order p with exact values to remember, min(p, 2) from a cold start. A step from
    or to alpha = 0 or to sigma = 0 is first order.

    Raises:
        UndiffuseError: order outside 1 ... 4.

    Source: Zhang & Chen 2023 (arXiv 2204.13902), tAB-DEIS in log-SNR.
    """

    name: ClassVar[str] = "exponential-adams"
    order: int = 3

    def __post_init__(self) -> None:
        check(type(self.order) is int and self.order in {1, 2, 3, 4}, self, "order", "1, 2, 3 or 4")

    @property
    def choices(self) -> Choices:
        return Choices("noise", "log-snr", "exact", self.order)
