r"""The loss that also teaches the variance of the reverse steps.

    L_hybrid = L_simple + weight L_vlb,
    L_simple = E |eps_hat - eps|^2 / D,
    L_vlb    = sum_k KL( q(x_{k-1} | x_k, x_0) || N(mu, variance) ) / D,    in nats,

where mu stands still in L_vlb (no gradient), so the mean learns from L_simple and the variance from
L_vlb alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Condition, Learned
from undiffuse.likelihood.elbo import step_term
from undiffuse.objectives.times.uniform import Uniform


@dataclass(frozen=True)
class Hybrid:
    """L_simple + weight L_vlb on a chain of `steps` steps, for a network with variance=true.

    t is one of k / steps with equal chances, s = t - 1 / steps, and the sum over k is `steps` times
    the mean. L_T and, where sigma(0) = 0, L_0 have nothing to learn here and are left out.

    Raises:
        UndiffuseError: steps < 1 or a negative weight; in a call: a network without variance.

    Source: Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 16.

    >>> Hybrid(steps=100)
    Hybrid(steps=100, weight=0.001)
    """

    name: ClassVar[str] = "hybrid"
    steps: int = 1000
    weight: float = 0.001

    def __post_init__(self) -> None:
        check(self.steps >= 1, self, "steps", "at least 1")
        check(finite(self.weight) and self.weight >= 0, self, "weight", "at least 0")

    @property
    def times(self) -> Uniform:
        """The distribution of t."""
        return Uniform(steps=self.steps)

    def loss(
        self, denoiser: Learned, x_0: Tensor, u: Tensor, noise: Tensor, **condition: Condition
    ) -> Tensor:
        """The loss of each sample, averaged over its dimensions, [B].

        Args:
            denoiser: the denoiser in training.
            x_0: data [B, ...].
            u: uniform numbers [B] in [0, 1) that choose the times.
            noise: standard normal numbers [B, ...].
            condition: named tensors for the network.
        """
        simple, kl = self.parts(denoiser, x_0, u, noise, **condition)
        return simple + (self.weight * kl).to(simple)

    def parts(
        self, denoiser: Learned, x_0: Tensor, u: Tensor, noise: Tensor, **condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """Single-sample estimates of L_simple and of L_vlb, [B] each, before the weight."""
        schedule = denoiser.schedule
        t = self.times.times(u, schedule)
        s = (t - 1 / self.steps).clamp(min=0)
        x_t = process.noised(schedule, x_0, t, noise)
        x0_hat, variance = denoiser.reverse(x_t, t, s, **condition)
        eps_hat = (x_t - over(schedule.alpha(t), x_t) * x0_hat) / over(schedule.sigma(t), x_t)
        simple = (eps_hat - noise).flatten(1).square().mean(1)
        noisy = schedule.sigma(s) > 0
        variance = torch.where(over(noisy, variance).bool(), variance, torch.ones_like(variance))
        kl = step_term(schedule, x_0.double(), x0_hat.detach().double(), t, s, variance)
        per_dimension = self.steps * kl / x_0[0].numel()
        return simple, torch.where(noisy, per_dimension, torch.zeros_like(per_dimension))
