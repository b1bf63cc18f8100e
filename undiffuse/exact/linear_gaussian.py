r"""A variational autoencoder in which everything is known: linear maps and Gaussians.

    prior      p(z)     = N(0, I)
    decoder    p(x | z) = N(W z + b, s^2 I)
    encoder    q(z | x) = N(A x + c, S)

The evidence p(x) = N(b, W W^T + s^2 I) and the posterior p(z | x) are Gaussian too, so both of the
theory's decompositions can be computed, side by side:

    log p(x) - ELBO(x)           = KL( q(z|x) || p(z|x) ) >= 0,
    KL( q(x, z) || p(x, z) )     = KL( p_data || p(x) ) + E KL( q(z|x) || p(z|x) )
                                   modelling error        inference error

for Gaussian data, with q(x, z) = p_data(x) q(z | x).

Sources: Kingma & Welling 2014 (arXiv 1312.6114); Tipping & Bishop 1999, "Probabilistic principal
component analysis"; Lucas et al. 2019 (arXiv 1911.02469); lecture 004.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError


class Decomposition(NamedTuple):
    """The two errors of a VAE in nats: joint = modelling + inference."""

    joint: float  # KL( q(x, z) || p(x, z) )
    modelling: float  # KL( p_data || p(x) )
    inference: float  # E KL( q(z|x) || p(z|x) )


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """A linear VAE with D observed and Z latent dimensions, in closed form, float64.

    Args:
        W: [D, Z].
        b: [D].
        s: standard deviation of the decoder, > 0, in the data's units.
        A: [Z, D].
        c: [Z].
        S: covariance of the encoder, [Z, Z], positive definite.

    Raises:
        UndiffuseError: shapes that do not fit, s or S not positive.

    >>> one = torch.ones(1, 1)
    >>> vae = LinearGaussian(one, one[0], 1.0, one / 2, -one[0] / 2, one / 2)
    >>> bool(vae.inference_error(one) < 1e-12)  # q is the posterior
    True
    """

    W: Tensor
    b: Tensor
    s: float
    A: Tensor
    c: Tensor
    S: Tensor

    def __post_init__(self) -> None:
        for field in ("W", "b", "A", "c", "S"):
            value = torch.as_tensor(getattr(self, field), dtype=torch.float64)
            object.__setattr__(self, field, value)
        if self.W.ndim != 2:
            raise UndiffuseError(f"LinearGaussian: W must be [D, Z], not {list(self.W.shape)}")
        D, Z = self.W.shape
        shapes = {"b": (D,), "A": (Z, D), "c": (Z,), "S": (Z, Z)}
        for field, shape in shapes.items():
            found = tuple(getattr(self, field).shape)
            if found != shape:
                raise UndiffuseError(
                    f"LinearGaussian: {field} must be {list(shape)} beside W of [{D}, {Z}], not"
                    f" {list(found)}"
                )
        if not self.s > 0:
            raise UndiffuseError(f"LinearGaussian: s must be positive, not {self.s}")
        _cholesky(self.S, "S")

    @classmethod
    def optimum(cls, mean: Tensor, cov: Tensor, latent: int) -> LinearGaussian:
        """The best linear VAE for data of this mean [D] and covariance [D, D].

        With the eigenvalues l_1 >= l_2 >= ... of cov and their eigenvectors U: s^2 is the mean of
        those after the first Z, W = U_Z (diag(l_1 ... l_Z) - s^2 I)^{1/2}, b = mean, and q is the
        posterior, whose covariance is diagonal. It is unique up to a rotation of z.

        Raises:
            UndiffuseError: unless 1 <= latent < D, or if nothing is left for s.

        Source: Tipping & Bishop 1999, section 3.2.
        """
        mean, cov = _double(mean), _double(cov)
        if not 1 <= latent < len(mean):
            raise UndiffuseError(f"latent must be from 1 to {len(mean) - 1}, not {latent}")
        values, basis = torch.linalg.eigh(cov)  # rising
        values, basis = values.flip(0), basis.flip(1)
        left = float(values[latent:].mean())
        if not left > 1e-12 * float(values[0]):
            raise UndiffuseError(
                f"the data lies in {latent} dimensions or fewer, so the best s is 0: use fewer"
            )
        W = basis[:, :latent] * (values[:latent] - left).clamp(min=0).sqrt()
        return cls.with_posterior(W, mean, math.sqrt(left))

    @classmethod
    def with_posterior(cls, W: Tensor, b: Tensor, s: float) -> LinearGaussian:
        """The decoder W, b, s with its own posterior for an encoder: the ELBO is log p(x)."""
        W, b = _double(W), _double(b)
        inverse = torch.linalg.inv(W.mT @ W + s**2 * torch.eye(W.shape[1], dtype=torch.float64))
        A = inverse @ W.mT
        return cls(W, b, s, A, -A @ b, s**2 * inverse)

    def with_best_decoder(self, mean: Tensor, cov: Tensor) -> LinearGaussian:
        """The same encoder with the decoder that is best for data N(mean, cov).

        Its mean is the conditional mean of the joint q(x, z), W z + b = E[x | z], whatever s; and
        s^2 is the mean of Var[x | z] over the dimensions. Together with `with_posterior` this is
        the EM algorithm.

        Source: lecture 004, why VAEs blur.
        """
        mean, cov = _double(mean), _double(cov)
        with_z = cov @ self.A.mT  # Cov[x, z], [D, Z]
        W = torch.linalg.solve(self.A @ with_z + self.S, with_z, left=False)
        b = mean - W @ (self.A @ mean + self.c)
        left = float((cov - W @ with_z.mT).diagonal().mean())
        return replace(self, W=W, b=b, s=math.sqrt(left))

    def encode(self, x: Tensor) -> Tensor:
        """The mean A x + c of q(z | x), [B, Z]; its covariance is S."""
        return _double(x) @ self.A.mT + self.c

    def decode(self, z: Tensor) -> Tensor:
        """The mean W z + b of p(x | z), [B, D]; its covariance is s^2 I."""
        return _double(z) @ self.W.mT + self.b

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) = log N(x; b, W W^T + s^2 I) in nats, [B]."""
        offset = _double(x) - self.b
        factor = _cholesky(self._evidence(), "W W^T + s^2 I")
        unit = torch.linalg.solve_triangular(factor, offset.mT, upper=False)  # [D, B]
        constant = len(self.b) * math.log(2 * math.pi) + _log_det(factor)
        log_p: Tensor = -(unit.square().sum(0) + constant) / 2
        return log_p

    def reconstruction(self, x: Tensor) -> Tensor:
        """E_q(z|x) log p(x | z) in nats, [B]."""
        square = (_double(x) - self.decode(self.encode(x))).square().sum(1)
        spread = torch.trace(self.W @ self.S @ self.W.mT)
        log_width = len(self.b) * math.log(2 * math.pi * self.s**2)
        return -((square + spread) / self.s**2 + log_width) / 2

    def regularisation(self, x: Tensor) -> Tensor:
        """KL( q(z|x) || N(0, I) ) in nats, [B]."""
        zero, unit = torch.zeros_like(self.c), torch.eye(len(self.c), dtype=torch.float64)
        return gaussian_divergence(self.encode(x), self.S, zero, unit)

    def elbo(self, x: Tensor) -> Tensor:
        """reconstruction - regularisation <= log p(x), in nats, [B]."""
        return self.reconstruction(x) - self.regularisation(x)

    def inference_error(self, x: Tensor) -> Tensor:
        """KL( q(z|x) || p(z|x) ) = log p(x) - elbo(x), in nats, [B]."""
        exact = self.with_posterior(self.W, self.b, self.s)
        return gaussian_divergence(self.encode(x), self.S, exact.encode(x), exact.S)

    def errors(self, mean: Tensor, cov: Tensor) -> Decomposition:
        """Joint, modelling and inference error on data N(mean, cov), each on its own formula.

        Args:
            mean: [D].
            cov: [D, D], positive definite.
        """
        mean, cov = _double(mean), _double(cov)
        size, unit = len(self.b), torch.eye(len(self.c), dtype=torch.float64)
        with_z = cov @ self.A.mT
        q_mean = torch.cat([mean, self.encode(mean[None])[0]])
        q_cov = _blocks(cov, with_z, self.A @ with_z + self.S)
        p_mean = torch.cat([self.b, torch.zeros_like(self.c)])
        p_cov = _blocks(self._evidence(), self.W, unit)
        exact = self.with_posterior(self.W, self.b, self.s)
        turn = self.A - exact.A  # how the two means of z move apart with x
        moved = torch.linalg.solve(exact.S, turn @ cov @ turn.mT).trace() / 2
        centre = q_mean[size:], exact.encode(mean[None])[0]
        inference = gaussian_divergence(centre[0], self.S, centre[1], exact.S) + moved
        return Decomposition(
            joint=float(gaussian_divergence(q_mean, q_cov, p_mean, p_cov)),
            modelling=float(gaussian_divergence(mean, cov, self.b, self._evidence())),
            inference=float(inference),
        )

    def _evidence(self) -> Tensor:
        """W W^T + s^2 I, the covariance of p(x)."""
        return self.W @ self.W.mT + self.s**2 * torch.eye(len(self.b), dtype=torch.float64)


def gaussian_divergence(mean: Tensor, cov: Tensor, mean_p: Tensor, cov_p: Tensor) -> Tensor:
    """KL( N(mean, cov) || N(mean_p, cov_p) ) in nats, [...] for means [..., D]; cov [D, D].

    1/2 (tr(cov_p^-1 cov) - D + d^T cov_p^-1 d + log(det cov_p / det cov)), d = mean - mean_p.

    Raises:
        UndiffuseError: a covariance that is not positive definite.

    >>> unit = torch.eye(2)
    >>> gaussian_divergence(torch.ones(2), unit, torch.zeros(2), unit).item()
    1.0
    """
    factor, factor_p = _cholesky(cov, "cov"), _cholesky(cov_p, "cov_p")
    offset = (mean - mean_p).reshape(-1, len(cov)).mT  # [D, N]
    square = torch.linalg.solve_triangular(factor_p, offset, upper=False).square().sum(0)
    spread = torch.linalg.solve_triangular(factor_p, factor, upper=False).square().sum()
    constant = spread - len(cov) + _log_det(factor_p) - _log_det(factor)
    kl: Tensor = (square.reshape(mean.shape[:-1]) + constant) / 2
    return kl


def _double(x: Tensor) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float64)


def _cholesky(matrix: Tensor, name: str) -> Tensor:
    found: tuple[Tensor, Tensor] = torch.linalg.cholesky_ex(matrix)
    factor, failed = found
    if bool(failed.any()) or not torch.allclose(matrix, matrix.mT):
        raise UndiffuseError(f"{name} must be symmetric and positive definite")
    return factor


def _log_det(factor: Tensor) -> Tensor:
    log_det: Tensor = 2 * factor.diagonal().log().sum()
    return log_det


def _blocks(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """[[a, b], [b^T, c]]."""
    return torch.cat([torch.cat([a, b], 1), torch.cat([b.mT, c], 1)])
