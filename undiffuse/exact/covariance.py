r"""Covariances of mixture components: isotropic ones and full ones behind the same four methods.

Component k at time t has covariance V_k = a^2 C_k + v I with a = alpha(t), v = sigma(t)^2. All
samples here are flat, [B, D]; a and v are scalars or [B]; the means m_k are [K, D].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from undiffuse.broadcast import over
from undiffuse.errors import UndiffuseError
from undiffuse.exact.distance import square_distances


class Covariances(nn.Module, ABC):
    """The covariances C_k of K components; `variances` are their eigenvalues."""

    variances: Tensor

    @abstractmethod
    def log_normal(self, x: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        """log N(x; a m_k, V_k), [B, K]."""

    @abstractmethod
    def posterior_mean(self, x: Tensor, r: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        """sum_k r_k (m_k + a C_k V_k^{-1} (x - a m_k)) for responsibilities r [B, K]; [B, D]."""

    @abstractmethod
    def posterior(self, x: Tensor, means: Tensor, a: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [B, K, D] and covariance v C_k V_k^{-1} [B or 1, K, D, D] of x_0 given x and k."""

    @abstractmethod
    def posterior_trace(self, x: Tensor, r: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        """The trace of Cov[x_0 | x], within the components and between them, [B]."""

    @abstractmethod
    def score(self, x: Tensor, r: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        """-sum_k r_k V_k^{-1} (x - a m_k), [B, D]; finite at v = 0 where C_k has width."""

    @abstractmethod
    def colour(self, unit: Tensor, k: Tensor) -> Tensor:
        """C_k^{1/2} unit, from standard normal numbers [B, D] for components k [B]."""

    @abstractmethod
    def matrices(self, size: int) -> Tensor:
        """The C_k as matrices, [K, D, D]."""


class Isotropic(Covariances):
    """C_k = std_k^2 I; std is a number or [K], >= 0."""

    def __init__(self, std: Tensor | float, count: int) -> None:
        super().__init__()
        std = torch.as_tensor(std, dtype=torch.float64)
        if std.ndim > 1 or (std.ndim == 1 and len(std) != count) or not bool((std >= 0).all()):
            raise UndiffuseError(f"std must be a number >= 0 or {count} of them")
        self.register_buffer("variances", std.square().expand(count).contiguous())  # [K]

    def log_normal(self, x: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        scaled = over(a, x[:, None]) * means  # [K, D], or [B, K, D] for a time per sample
        square = square_distances(x, scaled)
        var = over(a**2, x) * self.variances.to(x) + over(v, x)  # [B, K] or [1, K]
        return -(square / var + means.shape[1] * (2 * math.pi * var).log()) / 2

    def posterior_mean(self, x: Tensor, r: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        a, v, c = over(a, x), over(v, x), self.variances.to(x)
        total = a**2 * c + v
        # m_k + a c (x - a m_k) / total = (v m_k + a c x) / total
        return (r * (v / total)) @ means + (r * (a * c / total)).sum(1, keepdim=True) * x

    def posterior(self, x: Tensor, means: Tensor, a: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        a, v, c = over(a, x), over(v, x), self.variances.to(x)
        total = a**2 * c + v  # [B or 1, K]
        mean = (v / total)[..., None] * means + (a * c / total)[..., None] * x[:, None]
        unit = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        return mean, (v * c / total).reshape(-1, len(means), 1, 1) * unit

    def posterior_trace(self, x: Tensor, r: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        a, v, c = over(a, x), over(v, x), self.variances.to(x)
        total = a**2 * c + v
        within = (r * (v * c / total)).sum(1) * means.shape[1]
        # mu_k - p = w_k (m_k - p) + g_k (x - a p) about p = sum_k r_k m_k, since w_k + a g_k = 1;
        # w and g are taken from their averages, so that nothing large cancels: [B, K] at most.
        p = r @ means
        u = x - a * p
        w, g = (v / total).expand_as(r), (a * c / total).expand_as(r)
        dw, dg = w - (r * w).sum(1, keepdim=True), g - (r * g).sum(1, keepdim=True)
        along = u @ means.mT - (u * p).sum(1, keepdim=True)  # (m_k - p) . u
        square = square_distances(p, means)
        between: Tensor = r * (
            w**2 * square + 2 * w * dg * along + (dg * u.norm(dim=1, keepdim=True)) ** 2
        )
        return within + between.sum(1) - ((r * dw) @ means).square().sum(1)

    def score(self, x: Tensor, r: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        pull = r / (over(a**2, x) * self.variances.to(x) + over(v, x))  # [B, K]
        return over(a, x) * (pull @ means) - pull.sum(1, keepdim=True) * x

    def colour(self, unit: Tensor, k: Tensor) -> Tensor:
        return self.variances[k].sqrt()[:, None] * unit

    def matrices(self, size: int) -> Tensor:
        return self.variances[:, None, None] * torch.eye(size, dtype=torch.float64)


class Full(Covariances):
    """C_k = Q_k diag(variances_k) Q_k^T from one covariance [D, D] or one each [K, D, D]."""

    basis: Tensor

    def __init__(self, cov: Tensor, count: int, size: int) -> None:
        super().__init__()
        cov = torch.as_tensor(cov, dtype=torch.float64)
        if cov.shape not in {(size, size), (count, size, size)}:
            raise UndiffuseError(
                f"cov must have shape [{size}, {size}] or [{count}, {size}, {size}],"
                f" not {list(cov.shape)}"
            )
        variances, basis = torch.linalg.eigh(cov.expand(count, size, size))
        symmetric = torch.allclose(cov, cov.mT, rtol=1e-9)
        if not symmetric or float(variances.min()) < -1e-9 * float(variances.abs().max()):
            raise UndiffuseError("cov must be symmetric and positive semi-definite")
        self.register_buffer("variances", variances.clamp(min=0))  # [K, D]
        self.register_buffer("basis", basis)  # [K, D, D]

    def _offsets(self, x: Tensor, means: Tensor, a: Tensor) -> Tensor:
        """x - a m_k along the eigenvectors of C_k, [B, K, D]."""
        offset = x[:, None] - over(a, x[:, None]) * means
        return torch.einsum("bkd,kde->bke", offset, self.basis.to(x))

    def log_normal(self, x: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        var = over(a**2, x[:, None]) * self.variances.to(x) + over(v, x[:, None])  # [B, K, D]
        square = self._offsets(x, means, a) ** 2 / var
        return -(square + (2 * math.pi * var).log()).sum(-1) / 2

    def posterior_mean(self, x: Tensor, r: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        c = self.variances.to(x)
        shrink = over(a, x[:, None]) * c / (over(a**2, x[:, None]) * c + over(v, x[:, None]))
        moved = torch.einsum("bke,kde->bkd", shrink * self._offsets(x, means, a), self.basis.to(x))
        return (r[..., None] * (means + moved)).sum(1)

    def posterior(self, x: Tensor, means: Tensor, a: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        c, basis = self.variances.to(x), self.basis.to(x)
        a_1, v_1 = over(a, x[:, None]), over(v, x[:, None])
        total = a_1**2 * c + v_1  # [B or 1, K, D]
        moved = torch.einsum("bke,kde->bkd", a_1 * c / total * self._offsets(x, means, a), basis)
        shrunk = (v_1 * c / total).reshape(-1, *c.shape)
        return means + moved, torch.einsum("kde,bke,kfe->bkdf", basis, shrunk, basis)

    def posterior_trace(self, x: Tensor, r: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        c, a_1, v_1 = self.variances.to(x), over(a, x[:, None]), over(v, x[:, None])
        total = a_1**2 * c + v_1  # [B or 1, K, D]
        within = (r * (v_1 * c / total).sum(-1)).sum(1)
        moved = a_1 * c / total * self._offsets(x, means, a)
        mean = means + torch.einsum("bke,kde->bkd", moved, self.basis.to(x))
        offset = mean - (r[..., None] * mean).sum(1, keepdim=True)
        return within + (r * offset.square().sum(-1)).sum(1)

    def score(self, x: Tensor, r: Tensor, means: Tensor, a: Tensor, v: Tensor) -> Tensor:
        var = over(a**2, x[:, None]) * self.variances.to(x) + over(v, x[:, None])  # [B, K, D]
        pull = r[..., None] * self._offsets(x, means, a) / var
        return -torch.einsum("bke,kde->bd", pull, self.basis.to(x))

    def colour(self, unit: Tensor, k: Tensor) -> Tensor:
        return torch.einsum("bde,be->bd", self.basis[k], self.variances[k].sqrt() * unit)

    def matrices(self, size: int) -> Tensor:
        return (self.basis * self.variances[:, None]) @ self.basis.mT
