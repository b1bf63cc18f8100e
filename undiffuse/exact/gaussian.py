"""The denoiser of one Gaussian, and its exact probability-flow map."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.exact.mixture import GaussianMixture
from undiffuse.schedules.base import Schedule, Time


class Gaussian(Denoiser):
    """x_0 ~ N(mean, C): a mixture of one, whose flow is known in closed form.

    Args:
        mean: [...], the mean of one sample.
        schedule: the noise schedule.
        std: standard deviation, one number >= 0.
        cov: covariance [D, D] instead.

    >>> from undiffuse.schedules.flow import Flow
    >>> Gaussian(torch.zeros(2), Flow(), std=1.0)(torch.ones(1, 2), 0.5)
    tensor([[1., 1.]])
    """

    name: ClassVar[str] = "gaussian"

    def __init__(
        self,
        mean: Tensor,
        schedule: Schedule,
        std: float | None = None,
        cov: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.mixture = GaussianMixture(
            torch.as_tensor(mean, dtype=torch.float64)[None], None, schedule, std, cov
        )
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

    def log_prob(self, x: Tensor, t: Time) -> Tensor:
        """log p_t(x) in nats, [B]."""
        return self.mixture.log_prob(x, t)

    def draw(self, count: int, t: Time = 0.0, seed: int = 0) -> Tensor:
        """`count` exact samples of p_t, [count, ...], float64."""
        return self.mixture.draw(count, t, seed)

    def flow(self, x: Tensor, t: Time, s: Time) -> Tensor:
        """Where the probability-flow ODE takes x from time t to time s.

        x_s = alpha_s m + V_s^{1/2} V_t^{-1/2} (x_t - alpha_t m), V = alpha^2 C + sigma^2 I, along
        the eigenvectors of C. Scalar times, s before or after t; x [B, ...].

        Raises:
            UndiffuseError: p_t has no width in some direction (a point at sigma = 0).
        """
        mean = self.mixture.means[0]
        variances, basis = torch.linalg.eigh(self.mixture.covariances.matrices(len(mean))[0])
        std_t, std_s = (
            torch.sqrt(self.schedule.alpha(u) ** 2 * variances + self.schedule.sigma(u) ** 2)
            for u in (t, s)
        )  # [D]
        if not bool((std_t > 0).all()):
            raise UndiffuseError(f"at t = {t} the data has no width to flow from: use a later t")
        offset = x.flatten(1) - over(self.schedule.alpha(t), x.flatten(1)) * mean.to(x)
        moved = (offset @ basis.to(x) * (std_s / std_t).to(x)) @ basis.to(x).mT
        x_s: Tensor = over(self.schedule.alpha(s), offset) * mean.to(x) + moved
        return x_s.reshape(x.shape)

    def with_schedule(self, schedule: Schedule) -> Gaussian:
        """The same data under another schedule."""
        made = Gaussian.__new__(Gaussian)
        Denoiser.__init__(made)
        made.mixture, made.schedule = self.mixture.with_schedule(schedule), schedule
        return made
