r"""The denoiser of a Gaussian mixture, in closed form.

If x_0 ~ sum_k w_k N(m_k, C_k), then x_t ~ sum_k w_k N(alpha m_k, V_k) with
V_k = alpha^2 C_k + sigma^2 I, and with the responsibilities r_k(x) = P(k | x_t = x)

    E[x_0 | x_t = x]  = sum_k r_k (m_k + alpha C_k V_k^{-1} (x - alpha m_k)),
    grad log p_t(x)   = -sum_k r_k V_k^{-1} (x - alpha m_k).

A Gaussian is a mixture of one; a finite set of points is a mixture with C_k = 0.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Denoiser, time_of
from undiffuse.errors import UndiffuseError
from undiffuse.exact.covariance import Covariances, Full, Isotropic
from undiffuse.noise import Stream, generator
from undiffuse.schedules.base import Schedule, Time


class GaussianMixture(Denoiser):
    """E[x_0 | x_t], score, log-density and samples of a mixture of Gaussians under a schedule.

    Args:
        means: [K, ...], one mean per component.
        weights: [K] positive, made to sum to 1; None: equal.
        schedule: the noise schedule.
        std: standard deviation(s) of isotropic components, >= 0, a number or [K].
        cov: covariance(s) instead, [D, D] or [K, D, D], symmetric, positive semi-definite.
        labels: [K] int64; condition `label` [B] then restricts each sample to the components with
            that label (-1: all of them).

    Raises:
        UndiffuseError: shapes that do not fit, both or neither of std and cov, negative weights.

    >>> from undiffuse.schedules.flow import Flow
    >>> two = GaussianMixture(torch.tensor([[-1.0], [1.0]]), None, Flow(), std=0.1)
    >>> two(torch.zeros(1, 1), 0.5)
    tensor([[0.]])
    """

    name: ClassVar[str] = "gaussian-mixture"
    means: Tensor
    log_weights: Tensor
    labels: Tensor | None
    covariances: Covariances

    def __init__(
        self,
        means: Tensor,
        weights: Tensor | None,
        schedule: Schedule,
        std: Tensor | float | None = None,
        cov: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        means = torch.as_tensor(means, dtype=torch.float64)
        if means.ndim < 2 or means.numel() == 0:
            raise UndiffuseError(f"means must have shape [K, ...], not {list(means.shape)}")
        count, self.shape = len(means), tuple(means.shape[1:])
        weights = torch.ones(count) if weights is None else weights
        weights = torch.as_tensor(weights, dtype=torch.float64)
        if weights.shape != (count,) or not bool((weights > 0).all()):
            raise UndiffuseError(f"weights must be {count} positive numbers, one per component")
        if labels is not None and labels.shape != (count,):
            raise UndiffuseError(f"labels must be {count} integers, one per component")
        self.register_buffer("means", means.flatten(1))  # [K, D]
        self.register_buffer("log_weights", (weights / weights.sum()).log())  # [K]
        self.register_buffer("labels", labels)
        if std is not None and cov is None:
            self.covariances = Isotropic(std, count)
        elif cov is not None and std is None:
            self.covariances = Full(cov, count, self.means.shape[1])
        else:
            raise UndiffuseError("give either std or cov, not both and not neither")

    def _log_joint(self, x: Tensor, t: Tensor, label: Condition) -> Tensor:
        """log P(k, x_t = x), [B, K]."""
        a, v = self.schedule.alpha(t), self.schedule.sigma(t) ** 2
        log_normal = self.covariances.log_normal(x.flatten(1), self.means.to(x), a, v)
        return self._log_prior(label).to(x) + log_normal

    def _log_prior(self, label: Condition) -> Tensor:
        """log P(k | label), [K] or [B, K]."""
        if label is None:
            return self.log_weights
        if self.labels is None:
            raise UndiffuseError("this mixture has no labels; make it with labels=...")
        allowed = (label[:, None] == self.labels) | (label[:, None] < 0)  # [B, K]
        if not bool(allowed.any(1).all()):
            raise UndiffuseError(f"no component has one of the labels {label.unique().tolist()}")
        return self.log_weights.masked_fill(~allowed, -math.inf).log_softmax(1)

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        a, v = self.schedule.alpha(t), self.schedule.sigma(t) ** 2
        r = self._log_joint(x_t, t, _label(condition)).softmax(1)  # [B, K]
        flat, means = x_t.flatten(1), self.means.to(x_t)
        return self.covariances.posterior_mean(flat, r, means, a, v).reshape(x_t.shape)

    def posterior_covariance(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """Cov[x_0 | x_t], [B, D, D]: what is left unknown within and between the components.

        sum_k r_k (S_k + (mu_k - mu)(mu_k - mu)^T) with S_k = sigma^2 C_k V_k^{-1} and mu_k the
        covariance and mean of x_0 given x_t and k, and mu = E[x_0 | x_t].

        Raises:
            UndiffuseError: where a component has no width (std = 0 at sigma = 0).
        """
        t = self._with_density(x_t, t)
        a, v = self.schedule.alpha(t), self.schedule.sigma(t) ** 2
        r = self._log_joint(x_t, t, _label(condition)).softmax(1)  # [B, K]
        mean, within = self.covariances.posterior(x_t.flatten(1), self.means.to(x_t), a, v)
        offset = mean - (r[..., None] * mean).sum(1, keepdim=True)  # [B, K, D]
        between = torch.einsum("bk,bkd,bke->bde", r, offset, offset)
        return (r[..., None, None] * within).sum(1) + between

    def posterior_variance(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """tr Cov[x_0 | x_t] / D, [B, 1, ..., 1]; without matrices. Raises as the above."""
        t = self._with_density(x_t, t)
        a, v = self.schedule.alpha(t), self.schedule.sigma(t) ** 2
        r = self._log_joint(x_t, t, _label(condition)).softmax(1)  # [B, K]
        means = self.means.to(x_t)
        trace = self.covariances.posterior_trace(x_t.flatten(1), r, means, a, v)
        return over(trace / means.shape[1], x_t)

    def reverse_variance(self, x_t: Tensor, t: Time, s: Time, **condition: Condition) -> Tensor:
        """The optimal one, `process.optimal_variance` of `posterior_variance`, [B, 1, ..., 1]."""
        variance = self.posterior_variance(x_t, t, **condition)
        return process.optimal_variance(self.schedule, t, s, variance)

    def score(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """grad log p_t(x_t), of x_t's shape; defined at sigma = 0 too if every std > 0."""
        t = self._with_density(x_t, t)
        a, v = self.schedule.alpha(t), self.schedule.sigma(t) ** 2
        r = self._log_joint(x_t, t, _label(condition)).softmax(1)
        return self.covariances.score(x_t.flatten(1), r, self.means.to(x_t), a, v).reshape(
            x_t.shape
        )

    def log_prob(self, x: Tensor, t: Time, **condition: Condition) -> Tensor:
        """log p_t(x) in nats, [B].

        Raises:
            UndiffuseError: where a component has no width (std = 0 at sigma = 0).
        """
        return self._log_joint(x, self._with_density(x, t), _label(condition)).logsumexp(1)

    def _with_density(self, x: Tensor, t: Time) -> Tensor:
        t = time_of(x, t)
        if not bool((self.schedule.sigma(t) ** 2 + self.covariances.variances.min() > 0).all()):
            raise UndiffuseError("points without noise have no density: ask at a t with sigma > 0")
        return t

    def draw(self, count: int, t: Time = 0.0, seed: int = 0, label: int | None = None) -> Tensor:
        """`count` exact samples of p_t, [count, ...], float64."""
        prior = self._log_prior(None if label is None else torch.tensor([label])).exp().flatten()
        u = torch.from_numpy(generator(seed, "component").random(count))
        k = torch.searchsorted(prior.cumsum(0), u, right=True).clamp(max=len(prior) - 1)
        stream = Stream(seed, tuple(range(count)))
        unit, eps = (stream.draw(self.means.shape[1:], i, "exact").double() for i in (0, 1))
        x_0 = self.means[k] + self.covariances.colour(unit, k)
        x_t = over(self.schedule.alpha(t), x_0) * x_0 + over(self.schedule.sigma(t), x_0) * eps
        return x_t.reshape(count, *self.shape)

    def with_schedule(self, schedule: Schedule) -> GaussianMixture:
        """The same data under another schedule, exact at every log-SNR."""
        means = self.means.reshape(-1, *self.shape)
        made = GaussianMixture(means, self.log_weights.exp(), schedule, 0.0, labels=self.labels)
        made.covariances = self.covariances
        return made


def _label(condition: dict[str, Condition]) -> Condition:
    others = set(condition) - {"label"}
    if others:
        raise UndiffuseError(f"an exact denoiser knows the condition 'label', not {sorted(others)}")
    return condition.get("label")
