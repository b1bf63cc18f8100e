"""Lecture 004's decompositions of a VAE, where every term of them is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from undiffuse.errors import UndiffuseError
from undiffuse.exact import LinearGaussian, gaussian_divergence

TIGHT = {"rtol": 1e-10, "atol": 1e-10}
D, Z = 4, 2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariance(size: int, seed: int) -> Tensor:
    root = normal(size, size, seed=seed)
    return root @ root.mT / size + 0.1 * torch.eye(size, dtype=torch.float64)


X = normal(6, D, seed=9)
MEAN, COV = normal(D, seed=7), covariance(D, 8)


@pytest.fixture
def vae() -> LinearGaussian:
    return LinearGaussian(
        W=normal(D, Z, seed=1),
        b=normal(D, seed=2),
        s=0.6,
        A=normal(Z, D, seed=3),
        c=normal(Z, seed=4),
        S=covariance(Z, 5),
    )


def evidence(vae: LinearGaussian) -> MultivariateNormal:
    return MultivariateNormal(vae.b, vae.W @ vae.W.mT + vae.s**2 * torch.eye(D).double())


def posterior(vae: LinearGaussian) -> LinearGaussian:
    return LinearGaussian.with_posterior(vae.W, vae.b, vae.s)


def test_divergence() -> None:
    p, q = (MultivariateNormal(normal(D, seed=i), covariance(D, i)) for i in (0, 1))
    found = gaussian_divergence(p.mean, p.covariance_matrix, q.mean, q.covariance_matrix)
    torch.testing.assert_close(found, kl_divergence(p, q), **TIGHT)
    assert gaussian_divergence(X, COV, X, COV).abs().max() < 1e-12


def test_evidence_and_posterior(vae: LinearGaussian) -> None:
    """p(z | x) p(x) = p(x | z) p(z) at any z."""
    torch.testing.assert_close(vae.log_prob(X), evidence(vae).log_prob(X), **TIGHT)
    exact, z = posterior(vae), normal(6, Z)
    given = MultivariateNormal(exact.encode(X), exact.S).log_prob(z)
    prior = MultivariateNormal(torch.zeros(Z).double(), torch.eye(Z).double()).log_prob(z)
    decoded = torch.distributions.Normal(vae.decode(z), vae.s).log_prob(X).sum(1)
    torch.testing.assert_close(given + vae.log_prob(X), decoded + prior, **TIGHT)


def test_the_terms_of_the_elbo(vae: LinearGaussian) -> None:
    """Against torch.distributions and a quadrature over z that is exact for squares."""
    q = MultivariateNormal(vae.encode(X), vae.S)
    prior = MultivariateNormal(torch.zeros(Z).double(), torch.eye(Z).double())
    torch.testing.assert_close(vae.regularisation(X), kl_divergence(q, prior), **TIGHT)
    steps = math.sqrt(Z) * torch.linalg.cholesky(vae.S).mT
    points = vae.encode(X) + torch.cat([steps, -steps])[:, None]  # [2 Z, B, Z]
    decoded = torch.distributions.Normal(vae.decode(points), vae.s).log_prob(X).sum(2)
    torch.testing.assert_close(vae.reconstruction(X), decoded.mean(0), **TIGHT)


def test_the_gap_is_the_inference_error(vae: LinearGaussian) -> None:
    """log p(x) - ELBO(x) = KL( q(z|x) || p(z|x) ) >= 0, and 0 for the posterior itself."""
    gap = vae.log_prob(X) - vae.elbo(X)
    torch.testing.assert_close(gap, vae.inference_error(X), **TIGHT)
    assert bool((gap > 0).all())
    exact = posterior(vae)
    torch.testing.assert_close(exact.elbo(X), exact.log_prob(X), **TIGHT)


def test_joint_is_modelling_and_inference(vae: LinearGaussian) -> None:
    """KL(q(x, z) || p(x, z)) = KL(p_data || p) + E KL(q(z|x) || p(z|x)), each on its own."""
    errors = vae.errors(MEAN, COV)
    assert errors.joint == pytest.approx(errors.modelling + errors.inference, rel=1e-10)
    data = MultivariateNormal(MEAN, COV)
    assert errors.modelling == pytest.approx(kl_divergence(data, evidence(vae)).item(), rel=1e-10)
    steps = math.sqrt(D) * torch.linalg.cholesky(COV).mT
    points = MEAN + torch.cat([steps, -steps])  # the mean of a square over them is exact
    assert errors.inference == pytest.approx(vae.inference_error(points).mean().item(), rel=1e-10)
    entropy = data.entropy().item()
    assert errors.joint == pytest.approx(-entropy - vae.elbo(points).mean().item(), rel=1e-10)
    assert posterior(vae).errors(MEAN, COV).inference == pytest.approx(0, abs=1e-10)
    true = evidence(vae)
    assert vae.errors(true.mean, true.covariance_matrix).modelling == pytest.approx(0, abs=1e-10)


def test_the_best_decoder_is_the_conditional_mean(vae: LinearGaussian) -> None:
    """E[x | z] of the joint q(x, z): no other linear decoder has a smaller error, nor another s."""
    best = vae.with_best_decoder(MEAN, COV)
    least = best.errors(MEAN, COV).joint
    assert least < vae.errors(MEAN, COV).joint
    for seed in range(20):
        for size in (1e-3, 0.1):
            moved = replace(
                best,
                W=best.W + size * normal(D, Z, seed=seed),
                b=best.b + size * normal(D, seed=seed + 50),
            )
            assert moved.errors(MEAN, COV).joint > least
    for s in (0.99 * best.s, 1.01 * best.s):
        assert replace(best, s=s).errors(MEAN, COV).joint > least


def test_blur(vae: LinearGaussian) -> None:
    """A code that says nothing is decoded to the mean of the data, and one that says all to x."""
    blind = replace(vae, A=torch.zeros(Z, D)).with_best_decoder(MEAN, COV)
    torch.testing.assert_close(blind.decode(normal(5, Z)), MEAN.expand(5, D), **TIGHT)
    sharp = LinearGaussian(
        torch.zeros(D, D), torch.zeros(D), 1.0, torch.eye(D), torch.zeros(D), 1e-6 * torch.eye(D)
    ).with_best_decoder(MEAN, COV)
    torch.testing.assert_close(sharp.decode(X), X, rtol=0, atol=1e-4)


def test_em_reaches_the_optimum(vae: LinearGaussian) -> None:
    """Posterior and best decoder in turn: the error never rises, and ends at that of PPCA."""
    best = LinearGaussian.optimum(MEAN, COV, Z)
    last = vae.errors(MEAN, COV).joint
    for _ in range(300):
        vae = posterior(vae).with_best_decoder(MEAN, COV)
        error = vae.errors(MEAN, COV).joint
        assert error <= last + 1e-12
        last = error
    assert last == pytest.approx(best.errors(MEAN, COV).joint, abs=1e-8)


def test_the_optimum() -> None:
    """p(x) has the first Z principal variances of the data and the mean of the rest.

    There is no inference error, and q is diagonal: an encoder with variances alone reaches it.
    """
    best = LinearGaussian.optimum(MEAN, COV, Z)
    values = torch.linalg.eigvalsh(COV).flip(0)
    found = torch.linalg.eigvalsh(evidence(best).covariance_matrix).flip(0)
    expected = torch.cat([values[:Z], values[Z:].mean().expand(D - Z)])
    torch.testing.assert_close(found, expected, **TIGHT)
    errors = best.errors(MEAN, COV)
    assert errors.inference == pytest.approx(0, abs=1e-10)
    left = values[Z:]
    assert errors.modelling == pytest.approx(
        float(((left.mean() / left).log()).sum() / 2), abs=1e-10
    )
    torch.testing.assert_close(best.S, best.S.diagonal().diag(), **TIGHT)
    for seed in range(10):
        other = replace(best, W=best.W + 0.05 * normal(D, Z, seed=seed))
        assert other.errors(MEAN, COV).modelling > errors.modelling


def test_mistakes_are_one_sentence(vae: LinearGaussian) -> None:
    with pytest.raises(UndiffuseError, match="W must be"):
        replace(vae, W=torch.zeros(D))
    with pytest.raises(UndiffuseError, match=r"A must be \[2, 4\] beside W of \[4, 2\]"):
        replace(vae, A=torch.zeros(D, Z))
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(UndiffuseError, match="s must be positive"):
            replace(vae, s=wrong)
    for wrong_S in (-torch.eye(Z), torch.tensor([[1.0, 0.5], [0.0, 1.0]])):
        with pytest.raises(UndiffuseError, match="S must be symmetric and positive definite"):
            replace(vae, S=wrong_S)
    for latent in (0, D):
        with pytest.raises(UndiffuseError, match="latent must be from 1 to 3"):
            LinearGaussian.optimum(MEAN, COV, latent)
    with pytest.raises(UndiffuseError, match="use fewer"):
        LinearGaussian.optimum(MEAN, torch.diag(torch.tensor([1.0, 0, 0, 0])), Z)
