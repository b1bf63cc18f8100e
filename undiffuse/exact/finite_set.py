r"""The ideal denoiser of finite data: what a network of unlimited capacity would learn.

For K = {x^(1), ..., x^(N)} the minimiser of the training loss is

    eps*(x, t)  = sum_i (x - alpha x^(i)) e_i / (sigma sum_i e_i),
    e_i         = exp(-|x - alpha x^(i)|^2 / (2 sigma^2)),

so E[x_0 | x_t] is a softmax average of the data. Its samples are the data: a model that generalises
differs from it.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from undiffuse.denoiser import Condition, Denoiser
from undiffuse.exact.mixture import GaussianMixture
from undiffuse.schedules.base import Schedule, Time


class FiniteSet(Denoiser):
    """E[x_0 | x_t] for data that is exactly the given points, each as likely as the others.

    Stable for any sigma > 0: distances are taken directly and weights by softmax.

    Args:
        points: [N, ...].
        schedule: the noise schedule.
        labels: [N] int64; condition `label` [B] restricts each sample to points of that label.

    Source: lecture 003; Permenter & Yuan 2023 (arXiv 2306.04848).
    """

    name: ClassVar[str] = "finite-set"

    def __init__(self, points: Tensor, schedule: Schedule, labels: Tensor | None = None) -> None:
        super().__init__()
        self.mixture = GaussianMixture(points, None, schedule, std=0.0, labels=labels)
        self.schedule = schedule

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        return self.mixture.denoise(x_t, t, **condition)

    def posterior_covariance(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """Cov[x_0 | x_t], [B, D, D], D numbers per sample."""
        return self.mixture.posterior_covariance(x_t, t, **condition)

    def posterior_variance(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """tr Cov[x_0 | x_t] / D, [B, 1, ..., 1]."""
        return self.mixture.posterior_variance(x_t, t, **condition)

    def reverse_variance(self, x_t: Tensor, t: Time, s: Time, **condition: Condition) -> Tensor:
        """The optimal variance of p(x_s | x_t), s < t, [B, 1, ..., 1]."""
        return self.mixture.reverse_variance(x_t, t, s, **condition)

    def score(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """grad log p_t(x_t), of x_t's shape."""
        return self.mixture.score(x_t, t, **condition)

    def log_prob(self, x: Tensor, t: Time, **condition: Condition) -> Tensor:
        """log p_t(x) in nats, [B], at a t with sigma > 0."""
        return self.mixture.log_prob(x, t, **condition)

    def draw(self, count: int, t: Time = 0.0, seed: int = 0, label: int | None = None) -> Tensor:
        """`count` exact samples of p_t, [count, ...], float64."""
        return self.mixture.draw(count, t, seed, label)

    def with_schedule(self, schedule: Schedule) -> FiniteSet:
        """The same points under another schedule."""
        points = self.mixture.means.reshape(-1, *self.mixture.shape)
        return FiniteSet(points, schedule, self.mixture.labels)
